"""Dead letters of the history, kept in MongoDB beside it."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from libs.events.dead_letter_retry import (
    FINAL_CLASSES,
    MOST_ATTEMPTS,
    NotPending,
    Outcome,
    Status,
    UnknownDeadLetter,
    attempt,
    record_of,
)
from libs.events.sink import PartitionBatch
from libs.operations.dead_letters import DeadLetter
from services.analytics import documents, history
from services.analytics.documents import DocumentStore
from services.analytics.history import Document


class MongoDeadLetters:
    """The collection `dead_letters`. Documents are idempotent, so a retry may be repeated."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    async def page(self, status: Status | None, after: str | None, limit: int) -> list[DeadLetter]:
        """As DeadLetterStore.page, in order of topic, partition and offset."""
        return [_letter(found) for found in await self._store.dead_letters(status, after, limit)]

    async def find(self, letter_id: str) -> DeadLetter:
        """As DeadLetterStore.find."""
        found = await self._store.dead_letter(letter_id)
        if found is None:
            raise UnknownDeadLetter(f"there is no dead letter {letter_id}")
        return _letter(found)

    async def retry(self, letter_id: str, *, by: str, value: bytes | None = None) -> Outcome:
        """As DeadLetterStore.retry."""
        taken = await self._take(letter_id)
        letter = _letter(taken)
        record = record_of(
            letter.topic,
            letter.partition,
            letter.offset,
            letter.record_timestamp,
            letter.key,
            letter.value,
            letter.headers,
        )
        try:
            failure = await attempt(record, value, self._apply, documents.is_transient)
        except Exception:
            await self._store.release_dead_letter(taken)
            raise
        if failure:
            kept = _now() | {"errorClass": failure.error_class, "error": failure.error}
            await self._mark(taken, Status.PENDING, kept)
            return Outcome(Status.PENDING, failure.error)
        note = None if value is None else "edited"
        closed = _now() | {"resolvedBy": by, "note": note, "editedValue": value}
        await self._mark(taken, Status.RESOLVED, closed)
        return Outcome(Status.RESOLVED, None)

    async def discard(self, letter_id: str, *, by: str, note: str) -> None:
        """As DeadLetterStore.discard."""
        taken = await self._take(letter_id)
        await self._mark(taken, Status.DISCARDED, _now() | {"resolvedBy": by, "note": note})

    async def retry_due(self, group: str, *, most: int = 100) -> None:
        """Try the group's dead letters again whose time has come, as those of the other groups in Postgres."""
        due = await self._store.due_dead_letters(
            group, final_classes=FINAL_CLASSES, most_attempts=MOST_ATTEMPTS, limit=most
        )
        for letter_id in due:
            with suppress(NotPending):  # Another replica, or a person, was faster.
                await self.retry(letter_id, by="automatic retry")

    async def _apply(self, batch: PartitionBatch) -> None:
        await self._store.write(history.documents(item.event for item in batch.received))

    async def _take(self, letter_id: str) -> Document:
        """The letter, for one attempt. Raises UnknownDeadLetter, and NotPending while somebody else is at it, too."""
        taken = await self._store.take_dead_letter(letter_id)
        if taken is None:
            status = (await self.find(letter_id)).status
            is_busy = status is Status.PENDING
            raise NotPending(f"dead letter {letter_id} is {'being retried' if is_busy else status}")
        return taken

    async def _mark(self, taken: Document, status: Status, changes: Document) -> None:
        if not await self._store.mark_dead_letter(taken, status, changes):
            raise NotPending(f"the attempt at dead letter {taken['_id']} took so long that somebody else has taken it")


def _now() -> dict[str, Any]:
    return {"updatedAt": datetime.now(UTC)}


def _letter(found: Mapping[str, Any]) -> DeadLetter:
    return DeadLetter(
        id=found["_id"],
        group=found["group"],
        topic=found["topic"],
        partition=found["partition"],
        offset=found["offset"],
        key=found["key"],
        value=found["value"],
        edited_value=found.get("editedValue"),
        headers=[(name, value) for name, value in found["headers"]],
        event_type=found["eventType"],
        event_id=found["eventId"],
        error_class=found["errorClass"],
        error=found["error"],
        status=Status(found["status"]),
        attempts=found["attempts"],
        record_timestamp=found["recordTimestamp"],
        created_at=found["createdAt"],
        updated_at=found["updatedAt"],
        resolved_by=found.get("resolvedBy"),
        note=found.get("note"),
    )
