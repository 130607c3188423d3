"""Stock transactions: posted once, never changed."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from sqlalchemy import select

from libs.chassis.database import ReadConnection, acquired, fetch_all
from libs.chassis.paging import Page, Paging, keyset
from libs.events.inventory import TransactionType
from services.inventory import reversals
from services.inventory.queries import transactions
from services.inventory.routes.access import Operator, Reader, leads_to, refusals, visible_documents
from services.inventory.routes.posting import DatabasePool, Ledger, answer, stored
from services.inventory.schemas.fields import InstantParameter
from services.inventory.schemas.stock import ReversalIn, TransactionHeaderOut, TransactionIn, TransactionOut
from services.inventory.tables import ledger_entry, stock_transaction

router = APIRouter(prefix="/api/v1/transactions", tags=["transactions"], responses=refusals(409))


NEXT = leads_to("transaction_id", "transactionId", "get_transaction", "reverse_transaction")


@router.post("", status_code=201, responses={200: {"model": TransactionOut, "description": "Posted before"}, 201: NEXT})
async def post_transaction(
    body: TransactionIn, ledger: Ledger, pool: DatabasePool, principal: Operator, response: Response
) -> TransactionOut:
    """Post one stock transaction. Repeating a transactionId with the same body changes nothing and answers 200."""
    principal.check_warehouses(*body.warehouse_ids)
    outcome = await ledger.post(body.document(principal.name))
    return await answer(outcome, pool, response)


@router.get("")
async def list_transactions(
    connection: ReadConnection,
    principal: Reader,
    paging: Paging,
    transaction_type: Annotated[TransactionType | None, Query(alias="transactionType")] = None,
    reference_id: Annotated[str | None, Query(alias="referenceId", max_length=256)] = None,
    recorded_from: Annotated[
        InstantParameter | None, Query(alias="recordedFrom", description="At this instant or later.")
    ] = None,
    recorded_to: Annotated[
        InstantParameter | None, Query(alias="recordedTo", description="Before this instant.")
    ] = None,
) -> Page[TransactionHeaderOut]:
    """Posted transactions without their lines, by `recordedAt`.

    For reading what was recorded, not for following what is new: `recordedAt` is set before the commit, so a
    transaction that takes longer to commit may appear before a cursor that was saved meanwhile. To follow, read the
    topic `inventory-events`.
    """
    columns = stock_transaction.c
    statement = select(*columns).where(visible_documents(principal, stock_transaction, ledger_entry))
    if transaction_type is not None:
        statement = statement.where(columns.transaction_type == transaction_type.value)
    if reference_id is not None:
        statement = statement.where(columns.reference_id == reference_id)
    if recorded_from is not None:
        statement = statement.where(columns.recorded_at >= recorded_from)
    if recorded_to is not None:
        statement = statement.where(columns.recorded_at < recorded_to)
    rows = await fetch_all(connection, keyset(statement, [columns.recorded_at, columns.transaction_id], paging))
    return paging.page(rows, ["recorded_at", "transaction_id"], TransactionHeaderOut.of)


@router.post(
    "/{transaction_id}/reversal",
    status_code=201,
    responses={200: {"model": TransactionOut, "description": "Posted before"}},
)
async def reverse_transaction(
    transaction_id: UUID, body: ReversalIn, pool: DatabasePool, principal: Operator, response: Response
) -> TransactionOut:
    """Take a transaction back with a new one of opposite lines; each transaction at most once."""
    async with acquired(pool) as connection:
        principal.check_warehouses(*await transactions.warehouse_ids(connection, transaction_id))
    outcome = await reversals.reverse(pool, body.document(transaction_id, principal.name))
    return await answer(outcome, pool, response)


@router.get("/{transaction_id}")
async def get_transaction(transaction_id: UUID, connection: ReadConnection, principal: Reader) -> TransactionOut:
    """One posted transaction with its lines."""
    found = await stored(connection, transaction_id)
    principal.check_warehouses(*{line.warehouse_id for line in found.lines})
    return found
