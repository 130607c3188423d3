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
from services.inventory import book, events, outcome, transaction
from services.inventory.book import Book
from services.inventory.outcome import ErrorPolicy, Outcome, Posted, Rejected
from services.inventory.queries import transactions
from services.inventory.refusal import Refused
from services.inventory.transaction import Document, Posting

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
    outcomes = outcome.under(policy, outcomes)
    if new := [each for each in outcomes if isinstance(each, Posted)]:
        await _write(connection, locked, new)
    return outcomes


async def _lock(connection: Connection, documents: Sequence[Document]) -> Book:
    lines = [line for document in documents for line in document.lines]
    # A line that only takes needs no level: where there is none, there is nothing to take.
    arriving = {line.item for line in lines if line.quantity_change is None or line.quantity_change > 0}
    return await book.lock(connection, {line.item for line in lines}, arriving)


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
        transaction.check_items(document, locked.unusable)
        posting = transaction.post(document, locked.levels)
    except Refused as refusal:
        return Rejected(document, refusal)
    posted[document.transaction_id] = document.request_hash
    _record(locked, document, posting)
    return Posted(document, posting.entries, locked.now)


def _record(locked: Book, document: Document, posting: Posting) -> None:
    """Put a posting into the book: its levels, and its events in line order."""
    publish = locked.publications
    publish += [events.inventory_update(document, entry, locked.now) for entry in posting.entries]
    for item, level in posting.levels.items():
        if level.status is not locked.levels[item].status:
            cause, reference = LevelChangeCause.TRANSACTION, document.reference_id
            publish.append(
                events.stock_level_change(level, cause, locked.now, source=document.source, reference_id=reference)
            )
    publish.append(events.transaction_posted(document, posting.entries, locked.now))
    locked.put(posting.levels.values())


async def _write(connection: Connection, locked: Book, posted: Sequence[Posted]) -> None:
    inserted = await transactions.insert(connection, [each.document for each in posted], locked.now)
    if inserted < len(posted):
        raise asyncpg.SerializationError("another request has just posted the same transaction")
    entries = [(each.document, entry) for each in posted for entry in each.entries]
    await transactions.insert_entries(connection, entries, locked.now)
    await book.save(connection, locked)
