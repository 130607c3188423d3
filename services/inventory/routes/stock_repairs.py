"""Stock repairs: levels that do not agree with the ledger are rebuilt from it, with before and after."""

from uuid import UUID

from fastapi import APIRouter, Response
from sqlalchemy import select

from libs.chassis.database import Connection, ReadConnection, WriteConnection, fetch_all
from libs.chassis.paging import Page, Paging, keyset
from libs.chassis.replay import mark_replayed
from services.inventory import repairs
from services.inventory.queries import repairs as queries
from services.inventory.refusal import UnknownRepair
from services.inventory.routes.access import Reader, Repairer, leads_to, refusals, visible_documents
from services.inventory.schemas.repairs import StockRepairHeadOut, StockRepairIn, StockRepairOut, StockRepairUndoIn
from services.inventory.stock import StockItem
from services.inventory.tables import stock_repair, stock_repair_item

router = APIRouter(prefix="/api/v1/stock-repairs", tags=["operations"], responses=refusals(409))
NEXT = leads_to("repair_id", "repairId", "get_stock_repair", "undo_stock_repair")
REPLAYED = {"model": StockRepairOut, "description": "Applied before"}


@router.post("", status_code=201, responses={200: REPLAYED, 201: NEXT})
async def repair_stock(
    body: StockRepairIn, connection: WriteConnection, principal: Repairer, response: Response
) -> StockRepairOut:
    """Rebuild levels from the ledger and the allocations; those that agree stay as they are."""
    items = {StockItem(item.sku, item.warehouse_id) for item in body.items}
    principal.check_warehouses(*{item.warehouse_id for item in items})
    if await repairs.apply(connection, body.repair(principal.name), items):
        mark_replayed(response)
    return await _found(connection, body.repair_id)


@router.get("")
async def list_stock_repairs(connection: ReadConnection, principal: Reader, paging: Paging) -> Page[StockRepairHeadOut]:
    """Repairs without their levels, in the order of applying."""
    columns = stock_repair.c
    statement = select(*columns).where(visible_documents(principal, stock_repair, stock_repair_item))
    rows = await fetch_all(connection, keyset(statement, [columns.applied_at, columns.repair_id], paging))
    return paging.page(rows, ["applied_at", "repair_id"], StockRepairHeadOut.of)


@router.get("/{repair_id}")
async def get_stock_repair(repair_id: UUID, connection: ReadConnection, principal: Reader) -> StockRepairOut:
    """One repair with the levels that it changed."""
    found = await _found(connection, repair_id)
    principal.check_warehouses(*{level.warehouse_id for level in found.levels})
    return found


@router.post("/{repair_id}/undo", status_code=201, responses={200: REPLAYED})
async def undo_stock_repair(
    repair_id: UUID, body: StockRepairUndoIn, connection: WriteConnection, principal: Repairer, response: Response
) -> StockRepairOut:
    """Restore what a repair changed; refused when a level has changed since."""
    principal.check_warehouses(*{change.warehouse_id for change in await queries.changes(connection, repair_id)})
    if await repairs.undo(connection, body.repair(repair_id, principal.name)):
        mark_replayed(response)
    return await _found(connection, body.repair_id)


async def _found(connection: Connection, repair_id: UUID) -> StockRepairOut:
    head = await queries.head(connection, repair_id)
    if head is None:
        raise UnknownRepair(f"There is no stock repair {repair_id}")
    return StockRepairOut.of_changes(head, await queries.changes(connection, repair_id))
