"""Reserves stock, gives it back, turns it into sales, and sweeps what is overdue."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import asyncpg

from libs.chassis.database import Connection, Pool, acquired, retrying
from libs.events.inventory import LevelChangeCause
from services.inventory import book, ledger, reservation, transaction
from services.inventory.book import Book
from services.inventory.ledger import MOST_ATTEMPTS
from services.inventory.outcome import ErrorPolicy, Outcome, repeated
from services.inventory.queries import holds, reservations, transactions
from services.inventory.refusal import KeyReused, NotReserved, UnknownReservation
from services.inventory.reservation import Hold, Reservation, Share
from services.inventory.stock import StockItem
from services.inventory.transaction import Document, Line

T = TypeVar("T")


async def reserve(pool: Pool, asked: Reservation) -> bool:
    """Hold the units of a reservation until they are taken, given back or overdue; True for a repeated request.

    Raises InsufficientStock, KeyReused, and the refusals of unknown and archived items.
    """

    async def work(connection: Connection) -> bool:
        items = [line.item for line in asked.lines]
        locked = await book.lock(connection, set(items), arriving=set(items))
        # Asked under the locks: the same request, under way at the same time, may have taken the units.
        if (known := await reservations.request_hash(connection, asked.reservation_id)) is not None:
            if known != asked.request_hash:
                raise KeyReused(f"{asked.reservation_id} was used before with another body")
            return True
        transaction.check_items(items, locked.unusable)
        await _reserve(connection, locked, asked)
        return False

    return await _in_transaction(pool, work)


async def fulfil(pool: Pool, document: Document) -> Outcome:
    """Post the sale that takes units of a reservation; a document without lines takes all that it still holds.

    Raises UnknownReservation. The outcome is rejected with NotReserved or ReservationExpired.
    """
    assert document.reservation_id is not None, "the sale names the reservation that it fulfils"
    async with acquired(pool) as connection:
        # In this order: a sale that takes the units in between is found to be known.
        held = await holds.of_reservations(connection, [document.reservation_id])
        known = await transactions.known(connection, [document.transaction_id])
    if document.transaction_id in known:
        return repeated(document, known[document.transaction_id])
    if not held:
        raise UnknownReservation(f"There is no reservation {document.reservation_id}")
    if not document.lines:
        lines = [Line(hold.sku, hold.warehouse_id, -hold.outstanding) for hold in held if hold.outstanding]
        if not lines and held[0].expires_at <= datetime.now(UTC):
            raise reservation.expired(held[0])
        if not lines:
            raise NotReserved(f"Reservation {document.reservation_id} holds nothing any more")
        document = replace(document, lines=lines)
    [outcome] = await ledger.post(pool, [document], ErrorPolicy.REJECT_ALL)
    return outcome


async def release(connection: Connection, reservation_id: UUID, shares: Sequence[Share]) -> None:
    """Give units of a reservation back; all that it still holds when `shares` is empty.

    Raises UnknownReservation, and with shares also NotReserved and ReservationExpired.
    """
    held = await holds.of_reservations(connection, [reservation_id])
    if not held:
        raise UnknownReservation(f"There is no reservation {reservation_id}")
    locked = await book.lock(connection, {hold.item for hold in held})
    locked.add_holds(await holds.of_reservations(connection, [reservation_id]))
    current = locked.holds_of(reservation_id)
    given = reservation.take(current, shares, locked.now) if shares else _all(current)
    locked.release(given)
    await book.save(connection, locked)


async def sweep(pool: Pool, *, most_holds: int) -> int:
    """Release overdue reservations, at most `most_holds` lines at a time; how many stock items were swept.

    Only tidiness depends on it: every write releases what is overdue on its items, and reads do not count it.
    """

    async def work(connection: Connection) -> int:
        items = [StockItem(*row) for row in await reservations.overdue_items(connection, most_holds)]
        if items:
            await book.save(connection, await book.lock(connection, items))
        return len(items)

    return await _in_transaction(pool, work)


async def _reserve(connection: Connection, locked: Book, asked: Reservation) -> None:
    allocated = reservation.allocate(asked, locked.levels)
    expires_at = locked.now + timedelta(seconds=asked.ttl_seconds)
    if not await reservations.insert(connection, asked, locked.now, expires_at):
        raise asyncpg.SerializationError("another request has just made the same reservation")
    await reservations.insert_allocations(connection, asked, allocated.quantities, expires_at)
    locked.put(allocated.levels.values())
    for item in sorted(allocated.levels):
        locked.publish_level(item, LevelChangeCause.RESERVATION, source=asked.source, reference_id=asked.reference_id)
    await book.save(connection, locked)


def _all(held: Sequence[Hold]) -> list[tuple[Hold, int]]:
    return [(hold, hold.outstanding) for hold in held if hold.outstanding]


async def _in_transaction(pool: Pool, work: Callable[[Connection], Awaitable[T]]) -> T:
    async def attempt() -> T:
        async with acquired(pool) as connection, connection.transaction():
            return await work(connection)

    return await retrying(attempt, attempts=MOST_ATTEMPTS)
