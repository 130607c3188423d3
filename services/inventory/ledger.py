"""Posts stock transactions: the one path by which the quantity on hand, the ledger and their events change.

Locks, then decides (`transaction.py`), then writes set-based, all in one database transaction. The number of SQL
statements does not depend on how many documents and lines are posted.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from libs.chassis.database import Connection, Pool, acquired, retrying
from libs.events.inventory import LevelChangeCause
from services.inventory import book, events, outcome, reservation, transaction
from services.inventory.book import Book
from services.inventory.outcome import ErrorPolicy, Outcome, Posted, Rejected
from services.inventory.queries import holds, levels, transactions
from services.inventory.refusal import Refused
from services.inventory.reservation import Hold, Share
from services.inventory.transaction import Document, Line, Posting

MOST_ATTEMPTS = 4


async def post(pool: Pool, documents: Sequence[Document], policy: ErrorPolicy) -> list[Outcome]:
    """Post documents in one database transaction, in order; one outcome per document, in order.

    Committed when this returns. A document whose id is known is replayed, or refused when its body differs.
    Repeated up to three times when Postgres breaks a deadlock or the same document is being posted elsewhere.
    """

    async def attempt() -> list[Outcome]:
        async with acquired(pool) as connection:
            unit = connection.transaction()
            await unit.start()
            try:
                outcomes = await post_in(connection, documents, policy)
            except BaseException:
                await unit.rollback()
                raise
            # Refused documents leave nothing behind, not even an empty level.
            await (unit.commit() if any(isinstance(each, Posted) for each in outcomes) else unit.rollback())
            return outcomes

    return await retrying(attempt, attempts=MOST_ATTEMPTS)


async def post_in(connection: Connection, documents: Sequence[Document], policy: ErrorPolicy) -> list[Outcome]:
    """As `post`, in the caller's database transaction, which the caller commits or rolls back."""
    known = await transactions.known(connection, {document.transaction_id for document in documents})
    decided = {index: _decide_unlocked(document, known) for index, document in enumerate(documents)}
    pending = [document for index, document in enumerate(documents) if decided[index] is None]
    if not pending:
        return outcome.under(policy, [each for each in decided.values() if each is not None])
    locked = await _lock(connection, pending)
    posted: dict[UUID, bytes] = {}
    outcomes = [decided[index] or _decide(locked, document, posted) for index, document in enumerate(documents)]
    refused = {
        each.document.transaction_id
        for index, each in enumerate(outcomes)
        if decided[index] is None and isinstance(each, Rejected)
    }
    await _check_not_posted_meanwhile(connection, refused)
    outcomes = outcome.under(policy, outcomes)
    if new := [each for each in outcomes if isinstance(each, Posted)]:
        await _write(connection, locked, new)
    return outcomes


async def _check_not_posted_meanwhile(connection: Connection, refused: set[UUID]) -> None:
    """Raise a SerializationError when a document that was refused under locks is in the ledger by now.

    The same request may be under way twice: the second one waits for the locks, and finds that the first has taken the
    stock. Decided again, it is a repetition.
    """
    if refused and await transactions.known(connection, refused):
        raise asyncpg.SerializationError("another request has just posted the same transaction")


async def _lock(connection: Connection, documents: Sequence[Document]) -> Book:
    lines = [line for document in documents for line in document.lines]
    # A line that only takes needs no level: where there is none, there is nothing to take.
    arriving = {line.item for line in lines if line.quantity_change is None or line.quantity_change > 0}
    locked = await book.lock(connection, {line.item for line in lines}, arriving)
    if reservation_ids := {each.reservation_id for each in documents if each.reservation_id is not None}:
        locked.add_holds(await holds.of_reservations(connection, reservation_ids))
    short = {line.item for line in lines if _is_short_count(line, locked)}
    if short:
        locked.add_holds(await holds.newest_first(connection, short))
    return locked


def _is_short_count(line: Line, locked: Book) -> bool:
    return line.counted_quantity is not None and line.counted_quantity < locked.levels[line.item].quantity_reserved


def _decide_unlocked(document: Document, known: Mapping[UUID, bytes]) -> Outcome | None:
    if document.transaction_id in known:
        return outcome.repeated(document, known[document.transaction_id])
    try:
        transaction.check(document, datetime.now(UTC))
    except Refused as refusal:
        return Rejected(document, refusal)
    return None


def _decide(locked: Book, document: Document, posted: dict[UUID, bytes]) -> Outcome:
    if document.transaction_id in posted:
        return outcome.repeated(document, posted[document.transaction_id])
    try:
        transaction.check_items(document.items, locked.unusable)
        taken = _take_holds(locked, document)
        newest = {item: locked.holds_on(item) for item in document.items} if locked.holds else {}
        posting = transaction.post(document, locked.levels, newest)
    except Refused as refusal:
        return Rejected(document, refusal)
    posted[document.transaction_id] = document.request_hash
    for hold, quantity in taken:
        locked.settle(hold, fulfilled=quantity)
    _record(locked, document, posting)
    return Posted(document, posting.entries, locked.now)


def _take_holds(locked: Book, document: Document) -> list[tuple[Hold, int]]:
    """What each hold gives to a document that fulfils a reservation."""
    if document.reservation_id is None:
        return []
    shares = [Share(line.sku, line.warehouse_id, -(line.quantity_change or 0)) for line in document.lines]
    return reservation.take(locked.holds_of(document.reservation_id), shares, locked.now)


def _record(locked: Book, document: Document, posting: Posting) -> None:
    """Put a posting into the book: its levels and holds, and its events in line order."""
    before = {item: locked.levels[item].status for item in posting.levels}
    released = {hold.item for hold, _ in posting.released}
    locked.put(posting.levels.values())
    for hold, quantity in posting.released:
        locked.settle(hold, released=quantity)
    locked.publications += [events.inventory_update(document, entry, locked.now) for entry in posting.entries]
    for item, level in posting.levels.items():
        if item in released or level.status is not before[item]:
            cause = LevelChangeCause.RESERVATION if item in released else LevelChangeCause.TRANSACTION
            locked.publish_level(item, cause, source=document.source, reference_id=document.reference_id)
    locked.publications.append(events.transaction_posted(document, posting.entries, locked.now))


async def _write(connection: Connection, locked: Book, posted: Sequence[Posted]) -> None:
    inserted = await transactions.insert(connection, [each.document for each in posted], locked.now)
    if inserted < len(posted):
        raise asyncpg.SerializationError("another request has just posted the same transaction")
    entries = [(each.document, entry) for each in posted for entry in each.entries]
    await transactions.insert_entries(connection, entries, locked.now)
    await book.save(connection, locked)
    if refused := set(locked.created) - locked.changed:
        await levels.remove(connection, refused)
