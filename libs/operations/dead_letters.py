"""`/dead-letters`: records that a service's consumers could not apply, and what to do with them."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, Protocol

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field

from libs.chassis.auth import Principal, require
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging
from libs.chassis.problems import Problem, RefusalMap
from libs.events.dead_letter_retry import NotPending, Outcome, Status, Undecodable, UnknownDeadLetter

REFUSALS: Final[RefusalMap] = {
    UnknownDeadLetter: (404, "not-found"),
    NotPending: (409, "not-pending"),
    Undecodable: (422, "not-an-event"),
}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be applied, kept whole."""

    id: str
    group: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    edited_value: bytes | None
    """What was applied in place of the record."""
    headers: Sequence[tuple[str, bytes]]
    event_type: str | None
    event_id: str | None
    error_class: str
    error: str
    status: Status
    attempts: int
    record_timestamp: datetime
    created_at: datetime
    updated_at: datetime
    resolved_by: str | None
    note: str | None


class DeadLetterStore(Protocol):
    """Where a service keeps its dead letters."""

    async def page(self, status: Status | None, after: str | None, limit: int) -> list[DeadLetter]:
        """At most `limit` dead letters beyond the id `after`."""

    async def find(self, letter_id: str) -> DeadLetter:
        """One dead letter. Raises UnknownDeadLetter."""

    async def retry(self, letter_id: str, *, by: str, value: bytes | None = None) -> Outcome:
        """Let its own group apply it, edited if a value is given.

        Raises UnknownDeadLetter, NotPending, and Undecodable when the given value is no event.
        """

    async def discard(self, letter_id: str, *, by: str, note: str) -> None:
        """Give it up, for a reason. Raises UnknownDeadLetter and NotPending."""


class DeadLetterOut(ApiModel):
    """A record that could not be applied. It is mirrored to `<topic>.dlq`."""

    id: str
    group: str
    topic: str
    partition: int
    offset: int
    event_type: str | None
    event_id: str | None
    error_class: str
    error: str
    status: Status
    attempts: int
    record_timestamp: datetime
    created_at: datetime
    updated_at: datetime
    resolved_by: str | None
    note: str | None


class HeaderOut(ApiModel):
    """One header of the record."""

    name: str
    value: str = Field(description="Base64.")


class DeadRecordOut(DeadLetterOut):
    """A dead letter with its record, byte for byte."""

    key: str | None = Field(description="Base64.")
    value: str | None = Field(description="Base64.")
    text: str | None = Field(description="The value as text, where it is UTF-8.")
    edited_text: str | None = Field(description="What was applied in its place, if it was edited.")
    headers: list[HeaderOut]


class EditIn(ApiModel):
    """What the record should have said."""

    value: str = Field(min_length=2, description="The whole event, as JSON text. The original is kept.")


class DiscardIn(ApiModel):
    """Why the record is given up."""

    note: str = Field(min_length=1, max_length=1000, pattern=r"\S")


class OutcomeOut(ApiModel):
    """How a retry ended: `resolved`, or still `pending` with the new error."""

    status: Status
    error: str | None


def _store(request: Request) -> DeadLetterStore:
    store: DeadLetterStore = request.app.state.dead_letters
    return store


Store = Annotated[DeadLetterStore, Depends(_store)]
Operator = Annotated[Principal, require("ops:read")]
Repairer = Annotated[Principal, require("ops:repair")]
LetterId = Annotated[str, Path(min_length=1, max_length=400)]

router = APIRouter(prefix="/api/v1/dead-letters", tags=["operations"])


@router.get("")
async def list_dead_letters(
    store: Store, paging: Paging, principal: Operator, status: Annotated[Status | None, Query()] = None
) -> Page[DeadLetterOut]:
    """Records that could not be applied."""
    after = paging.after[0] if paging.after else None
    if after is not None and not isinstance(after, str):
        raise Problem(400, "invalid-cursor", "The cursor is not one that this list gave.")
    letters = await store.page(status, after, paging.limit + 1)
    rows = [_out(letter).model_dump() for letter in letters]
    return paging.page(rows, ("id",), DeadLetterOut.model_validate)


@router.get("/{letter_id}")
async def get_dead_letter(letter_id: LetterId, store: Store, principal: Operator) -> DeadRecordOut:
    """One dead letter, with the record as it was."""
    letter = await store.find(letter_id)
    return DeadRecordOut(
        **_out(letter).model_dump(),
        key=_base64(letter.key),
        value=_base64(letter.value),
        text=_text(letter.value),
        edited_text=_text(letter.edited_value),
        headers=[HeaderOut(name=name, value=b64encode(value).decode()) for name, value in letter.headers],
    )


@router.post("/{letter_id}/retry")
async def retry_dead_letter(letter_id: LetterId, store: Store, principal: Repairer) -> OutcomeOut:
    """Let the record's own group apply it again. No other group sees it."""
    return _outcome(await store.retry(letter_id, by=principal.name))


@router.post("/{letter_id}/edit")
async def edit_dead_letter(letter_id: LetterId, body: EditIn, store: Store, principal: Repairer) -> OutcomeOut:
    """Let the record's own group apply another value in its place, now and in every rebuild."""
    return _outcome(await store.retry(letter_id, by=principal.name, value=body.value.encode()))


@router.post("/{letter_id}/discard", status_code=204)
async def discard_dead_letter(letter_id: LetterId, body: DiscardIn, store: Store, principal: Repairer) -> None:
    """Give the record up. Its bytes and the reason stay."""
    await store.discard(letter_id, by=principal.name, note=body.note)


def _out(letter: DeadLetter) -> DeadLetterOut:
    return DeadLetterOut(**{name: getattr(letter, name) for name in DeadLetterOut.model_fields})


def _outcome(outcome: Outcome) -> OutcomeOut:
    return OutcomeOut(status=outcome.status, error=outcome.error)


def _base64(content: bytes | None) -> str | None:
    return None if content is None else b64encode(content).decode()


def _text(content: bytes | None) -> str | None:
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError:
        return None
