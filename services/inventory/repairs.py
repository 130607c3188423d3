"""Repairs levels that do not agree with the ledger or the allocations, and takes repairs back.

Only the level is rewritten, from what it is derived from; the ledger never is.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

import asyncpg

from libs.chassis.database import Connection
from libs.events.inventory import LevelChangeCause
from services.inventory import book
from services.inventory.book import Book
from services.inventory.queries import repairs
from services.inventory.refusal import KeyReused, RepairOutdated, UnknownRepair
from services.inventory.repair import Change, Repair, rebuilt, restored
from services.inventory.stock import StockItem


async def apply(connection: Connection, repair: Repair, items: Collection[StockItem]) -> bool:
    """Rebuild the levels that do not agree; True for a repeated request, which changes nothing.

    Levels that agree by now stay as they are. Raises KeyReused.
    """
    # What is overdue counts as reserved until somebody releases it: a broken level could not give it back.
    locked, _ = await book.lock_as_written(connection, items)
    if await _is_repeated(connection, repair):
        return True
    truths = await repairs.truths(connection, sorted(locked.levels))
    changes = [change for item in sorted(truths) if (change := rebuilt(locked.levels[item], truths[item])) is not None]
    await _write(connection, locked, repair, changes)
    return False


async def undo(connection: Connection, repair: Repair) -> bool:
    """Restore what `repair.undoes_id` changed; True for a repeated request.

    Raises UnknownRepair, KeyReused, and RepairOutdated when a level has changed since.
    """
    assert repair.undoes_id is not None, "the repair names the one that it undoes"
    done = await repairs.changes(connection, repair.undoes_id)
    locked, _ = await book.lock_as_written(connection, {change.item for change in done})
    if await _is_repeated(connection, repair):
        return True
    if not await repairs.exists(connection, repair.undoes_id):
        raise UnknownRepair(f"There is no stock repair {repair.undoes_id}")
    for change in done:
        if locked.levels[change.item].revision != change.revision:
            raise RepairOutdated(f"{change.item} has changed since it was repaired")
    await _write(connection, locked, repair, [restored(change) for change in done])
    return False


async def _is_repeated(connection: Connection, repair: Repair) -> bool:
    known = await repairs.request_hash(connection, repair.repair_id)
    if known is not None and known != repair.request_hash:
        raise KeyReused(f"{repair.repair_id} was used before with another body")
    return known is not None


async def _write(connection: Connection, locked: Book, repair: Repair, changes: Sequence[Change]) -> None:
    if not await repairs.insert(connection, repair, locked.now):
        raise asyncpg.SerializationError("another request has just made the same repair")
    await repairs.insert_changes(connection, repair.repair_id, changes)
    for change in changes:
        level = replace(
            locked.levels[change.item],
            quantity_on_hand=change.on_hand_after,
            quantity_reserved=change.reserved_after,
            sequence=change.sequence_after,
            revision=change.revision,
        )
        locked.put([level])
        locked.publish_level(change.item, LevelChangeCause.REPAIR, source="repair", reference_id=repair.plan_id)
    await book.save(connection, locked)
