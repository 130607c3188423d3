"""Takes posted transactions back."""

from dataclasses import replace
from uuid import UUID

from libs.chassis.database import Connection, Pool, acquired
from libs.events.inventory import TransactionType
from services.inventory import ledger, transaction
from services.inventory.outcome import ErrorPolicy, Outcome, repeated
from services.inventory.queries import transactions
from services.inventory.refusal import AlreadyReversed, NotReversible, UnknownTransaction
from services.inventory.transaction import Document


async def reverse(pool: Pool, document: Document) -> Outcome:
    """Post `document` with the opposite lines of the transaction that it reverses; sent again it is replayed.

    Raises UnknownTransaction, AlreadyReversed and NotReversible.
    """
    assert document.reverses_id is not None, "the document names the transaction that it reverses"
    async with acquired(pool) as connection:
        # In this order: a reversal that is posted in between is found to be known.
        by = await transactions.reversal_of(connection, document.reverses_id)
        known = await transactions.known(connection, [document.transaction_id])
        if document.transaction_id in known:
            return repeated(document, known[document.transaction_id])
        if by is not None:
            raise AlreadyReversed(f"{document.reverses_id} is reversed by {by}")
        opposite = await _opposite(connection, document.reverses_id, document)
    [outcome] = await ledger.post(pool, [opposite], ErrorPolicy.REJECT_ALL)
    return outcome


async def _opposite(connection: Connection, transaction_id: UUID, document: Document) -> Document:
    original = await transactions.header(connection, transaction_id)
    if original is None:
        raise UnknownTransaction(f"There is no transaction {transaction_id}")
    if original["reverses_id"] is not None:
        raise NotReversible(f"{transaction_id} is itself the reversal of {original['reverses_id']}")
    entries = await transactions.entries(connection, transaction_id)
    kind, lines = transaction.reversal(TransactionType(original["transaction_type"]), entries)
    if not lines:
        raise NotReversible(f"{transaction_id} changed no quantity")
    return replace(document, transaction_type=kind, lines=lines)
