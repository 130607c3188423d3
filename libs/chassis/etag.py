"""Optimistic concurrency over HTTP: ETag out, If-Match in."""

from typing import Annotated

from fastapi import Depends, Header

from libs.chassis.problems import Problem


def etag(revision: int) -> str:
    """The strong entity tag of a resource at this revision, quotes included."""
    return f'"{revision}"'


async def _if_match(
    if_match: Annotated[str | None, Header(description="ETag of the version being edited, or *.")] = None,
) -> str:
    if if_match is None:
        raise Problem(428, "precondition-required", "Send If-Match with the ETag of the version you are editing.")
    return if_match


IfMatch = Annotated[str, Depends(_if_match)]
"""The If-Match header of an edit; 428 `precondition-required` without it."""


def check(if_match: str, revision: int) -> None:
    """Raise 412 `precondition-failed` unless If-Match names this revision."""
    tags = {tag.strip() for tag in if_match.split(",")}
    if "*" not in tags and etag(revision) not in tags:
        raise Problem(412, "precondition-failed", f"The resource has changed: its ETag is now {etag(revision)}.")
