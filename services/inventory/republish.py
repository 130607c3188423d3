"""Writes events to the outbox again, the very same ones, for when the broker has lost them."""

from collections.abc import Sequence
from datetime import datetime

from libs.chassis.database import Pool, acquired
from libs.events import outbox
from libs.events.envelope import Event
from libs.events.inventory import LevelChangeCause
from services.inventory import events
from services.inventory.queries import history
from services.inventory.queries.history import Recorded
from services.inventory.stock import StockItem

DOCUMENTS_AT_ONCE = 500
LEVELS_AT_ONCE = 5_000


async def republish(pool: Pool, since: datetime) -> int:
    """Queue every event of the transactions recorded since then, and one of each level that changed since then.

    Returns how many events were queued. Consumers drop what they have applied already.
    """
    return await _republish_documents(pool, since) + await _republish_levels(pool, since)


async def _republish_documents(pool: Pool, since: datetime) -> int:
    queued, after = 0, history.START
    while True:
        async with acquired(pool) as connection, connection.transaction():
            recorded = await history.documents_after(connection, since, after, DOCUMENTS_AT_ONCE)
            if not recorded:
                return queued
            again = _events(recorded)
            await outbox.enqueue(connection, again)
        queued += len(again)
        after = recorded[-1].position


async def _republish_levels(pool: Pool, since: datetime) -> int:
    queued, after = 0, StockItem("", "")
    while True:
        async with acquired(pool) as connection, connection.transaction():
            levels = await history.levels_after(connection, since, after, LEVELS_AT_ONCE)
            if not levels:
                return queued
            cause = LevelChangeCause.TRANSACTION
            changes = [
                events.stock_level_change(level, cause, level.updated_at, source="republish") for level in levels
            ]
            await outbox.enqueue(connection, changes)
        queued += len(changes)
        after = levels[-1].item


def _events(recorded: Sequence[Recorded]) -> list[Event]:
    updates = [
        events.inventory_update(each.document, entry, each.recorded_at) for each in recorded for entry in each.entries
    ]
    # Documents of one batch share their time of recording: their entries are told apart by sequence.
    updates.sort(key=lambda update: (update.recorded_at, update.sequence))
    return [*updates, *(events.transaction_posted(each.document, each.entries, each.recorded_at) for each in recorded)]
