"""Requests that were carried out before."""

from starlette.responses import Response


def mark_replayed(response: Response) -> None:
    """Answer 200 with `Idempotent-Replayed`: the request was carried out before, and nothing has changed now."""
    response.status_code = 200
    response.headers["Idempotent-Replayed"] = "true"
