"""The ledger, read only: nobody can change it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy import select

from libs.chassis.database import ReadConnection, fetch_all
from libs.chassis.paging import Page, Paging, keyset
from libs.events.envelope import Sku, WarehouseId
from services.inventory.routes.access import Reader, visible_items
from services.inventory.schemas.fields import InstantParameter
from services.inventory.schemas.stock import LedgerEntryOut
from services.inventory.tables import ledger_entry, stock_transaction

router = APIRouter(prefix="/api/v1/ledger-entries", tags=["ledger"])


@router.get("")
async def list_ledger_entries(
    connection: ReadConnection,
    principal: Reader,
    paging: Paging,
    sku: Annotated[Sku | None, Query()] = None,
    warehouse_id: Annotated[WarehouseId | None, Query(alias="warehouseId")] = None,
    transaction_id: Annotated[UUID | None, Query(alias="transactionId")] = None,
    recorded_from: Annotated[
        InstantParameter | None, Query(alias="recordedFrom", description="At this instant or later.")
    ] = None,
    recorded_to: Annotated[
        InstantParameter | None, Query(alias="recordedTo", description="Before this instant.")
    ] = None,
) -> Page[LedgerEntryOut]:
    """Ledger entries by sku, warehouse and sequence."""
    entry, document = ledger_entry.c, stock_transaction.c
    statement = select(*entry, document.transaction_type, document.reference_id, document.source).join(
        stock_transaction, document.transaction_id == entry.transaction_id
    )
    statement = statement.where(visible_items(principal, ledger_entry))
    if sku is not None:
        statement = statement.where(entry.sku == sku)
    if warehouse_id is not None:
        statement = statement.where(entry.warehouse_id == warehouse_id)
    if transaction_id is not None:
        statement = statement.where(entry.transaction_id == transaction_id)
    if recorded_from is not None:
        statement = statement.where(entry.recorded_at >= recorded_from)
    if recorded_to is not None:
        statement = statement.where(entry.recorded_at < recorded_to)
    rows = await fetch_all(connection, keyset(statement, [entry.sku, entry.warehouse_id, entry.sequence], paging))
    return paging.page(rows, ["sku", "warehouse_id", "sequence"], LedgerEntryOut.of)
