"""Builds the history anew from the beginning of the topics, beside the running workers.

A new generation of the group fills collections of its own. When it has caught up, these take the place of the real
ones, and the workers are fenced: they claim again and go on where the new generation stands. What they wrote
meanwhile they write again; documents are idempotent.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from libs.events.dead_letter import printable
from libs.events.dead_letter_retry import Status
from libs.events.sink import RecordId
from libs.operations.generation import AlreadyRunning, Generation, KnownLetter, Progress, refuse_short_topics
from services.analytics.consumer import GROUP, TOPICS, HistorySink, letter_id
from services.analytics.documents import DocumentStore
from services.analytics.settings import Settings

DRAFT: Final = "rebuild_"
"""Before the names of the new generation's collections."""
LEASE: Final = f"rebuild {GROUP}"
LEASE_SECONDS: Final = 120.0


async def rebuild(
    database: DocumentStore, settings: Settings, progress: Progress, *, accept_dead_letters: bool = False
) -> None:
    """Do it. Raises RebuildRefused; then nothing has changed.

    Records that cannot be applied although the running workers have are a reason to refuse, or become dead letters if
    that is accepted. Interrupted while the collections change places, it must be run again: until then the history is
    incomplete.
    """
    kafka = settings.kafka
    owner = str(uuid4())
    await refuse_short_topics(TOPICS, kafka)
    async with _alone(database, owner), _draft(database) as draft:
        sink = HistorySink(draft, kafka, owner="rebuild", mirrors=False)
        generation = Generation(sink, await _known_letters(database), topics=TOPICS, kafka=kafka)

        async def applied() -> int:
            await _hold_lease(database, owner)
            return sum(checkpoint.get("nextOffset") or 0 for checkpoint in await draft.checkpoints(GROUP))

        async with generation.reading():
            await generation.catch_up(applied, progress)
            await generation.finish()
        letters = await _known_letters(database)
        lost = generation.lost(letters, accept=accept_dead_letters)
        await _hold_lease(database, owner)
        await draft.replace(database)
        await HistorySink(database, kafka, owner="rebuild").bury(lost)
        now = datetime.now(UTC)
        reopened = {
            letter_id(RecordId(batch.topic, batch.partition, poison.offset)): {
                "status": Status.PENDING,
                "errorClass": poison.error_class,
                "error": printable(poison.error),
                "resolvedBy": None,
                "note": None,
                "updatedAt": now,
            }
            for batch in lost
            for poison in batch.poison
        }
        await database.turn_dead_letters(reopened, Status.RESOLVED)
        resolved = {"status": Status.RESOLVED, "resolvedBy": "rebuild", "updatedAt": now}
        healed = {letter_id(place): resolved for place in generation.healed(letters)}
        await database.turn_dead_letters(healed, Status.PENDING)
        for checkpoint in await draft.checkpoints(GROUP):
            await database.set_checkpoint(checkpoint)


@asynccontextmanager
async def _alone(database: DocumentStore, owner: str) -> AsyncIterator[None]:
    """Within the block no other rebuild of the history runs. Raises AlreadyRunning."""
    await _hold_lease(database, owner)
    try:
        yield
    finally:
        await database.end_lease(LEASE, owner)


async def _hold_lease(database: DocumentStore, owner: str) -> None:
    """Go on holding it for a while: a rebuild that was killed must not stand in the way for ever."""
    if not await database.hold_lease(LEASE, owner, LEASE_SECONDS):
        raise AlreadyRunning(
            f"another rebuild of {GROUP} is running, or was killed less than {LEASE_SECONDS:.0f} s ago"
        )


@asynccontextmanager
async def _draft(database: DocumentStore) -> AsyncIterator[DocumentStore]:
    """Empty collections beside the real ones, within the block."""
    draft = database.draft(DRAFT)
    await draft.drop()
    await draft.create_collections()
    try:
        yield draft
    finally:
        await draft.drop()


async def _known_letters(database: DocumentStore) -> dict[RecordId, KnownLetter]:
    return {
        RecordId(found["topic"], found["partition"], found["offset"]): KnownLetter(
            Status(found["status"]), found["value"], found.get("editedValue")
        )
        for found in await database.all_dead_letters(GROUP)
    }
