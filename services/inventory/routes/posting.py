"""How a posted document is answered, by whatever route it came."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request, Response

from libs.chassis.database import Connection, Pool, acquired
from libs.chassis.replay import mark_replayed
from services.inventory.group_commit import GroupCommit
from services.inventory.outcome import Outcome, Posted, Rejected
from services.inventory.queries import transactions
from services.inventory.refusal import UnknownTransaction
from services.inventory.schemas.stock import TransactionOut


async def _pool(request: Request) -> Pool:
    pool: Pool = request.app.state.pool
    return pool


async def _ledger(request: Request) -> GroupCommit:
    ledger: GroupCommit = request.app.state.ledger
    return ledger


Ledger = Annotated[GroupCommit, Depends(_ledger)]
"""Where single documents are posted."""

DatabasePool = Annotated[Pool, Depends(_pool)]
"""For work that opens its own transactions, so that it can repeat them."""


async def answer(outcome: Outcome, pool: Pool, response: Response) -> TransactionOut:
    """The transaction as it is in the ledger; raises the refusal of a rejected one."""
    if isinstance(outcome, Rejected):
        raise outcome.error
    if isinstance(outcome, Posted):
        return TransactionOut.of_posted(outcome)
    mark_replayed(response)
    async with acquired(pool) as connection:
        return await stored(connection, outcome.document.transaction_id)


async def stored(connection: Connection, transaction_id: UUID) -> TransactionOut:
    """A posted transaction with its lines. Raises UnknownTransaction."""
    header = await transactions.header(connection, transaction_id)
    if header is None:
        raise UnknownTransaction(f"There is no transaction {transaction_id}")
    return TransactionOut.of_entries(header, await transactions.entries(connection, transaction_id))
