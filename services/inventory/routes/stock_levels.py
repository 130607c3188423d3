"""Stock levels: how many units of a sku are in a warehouse, and when that counts as low."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from libs.chassis.database import Connection, ReadConnection, WriteConnection, fetch_all
from libs.chassis.etag import IfMatch, etag
from libs.chassis.paging import Page, Paging, keyset
from libs.events.envelope import Sku, WarehouseId
from libs.events.inventory import StockStatus
from services.inventory import thresholds
from services.inventory.queries import readings
from services.inventory.refusal import UnknownStockItem
from services.inventory.routes.access import Operator, Reader, SkuInPath, WarehouseInPath, refusals
from services.inventory.schemas.fields import InstantParameter, Quantity
from services.inventory.schemas.stock import AsOfBasis, StockLevelAsOfOut, StockLevelOut, ThresholdsIn
from services.inventory.stock import StockItem
from services.inventory.tables import stock_level

router = APIRouter(prefix="/api/v1/stock-levels", tags=["stock"], responses=refusals(409, 412, 428))


@router.get("")
async def list_stock_levels(
    connection: ReadConnection,
    _principal: Reader,
    paging: Paging,
    sku: Annotated[Sku | None, Query()] = None,
    warehouse_id: Annotated[WarehouseId | None, Query(alias="warehouseId")] = None,
    status: Annotated[StockStatus | None, Query()] = None,
    available_lt: Annotated[Quantity | None, Query(alias="availableLt", description="Fewer than this.")] = None,
) -> Page[StockLevelOut]:
    """Stock levels by sku and warehouse."""
    statement = readings.stock_levels()
    if sku is not None:
        statement = statement.where(stock_level.c.sku == sku)
    if warehouse_id is not None:
        statement = statement.where(stock_level.c.warehouse_id == warehouse_id)
    if status is not None:
        statement = statement.where(readings.status == status.value)
    if available_lt is not None:
        statement = statement.where(readings.available < available_lt)
    rows = await fetch_all(connection, keyset(statement, [stock_level.c.sku, stock_level.c.warehouse_id], paging))
    return paging.page(rows, ["sku", "warehouse_id"], StockLevelOut.of)


@router.patch("/{warehouse_id}/{sku:path}/thresholds")
async def set_thresholds(
    warehouse_id: WarehouseInPath,
    sku: SkuInPath,
    body: ThresholdsIn,
    connection: WriteConnection,
    principal: Operator,
    if_match: IfMatch,
    response: Response,
) -> StockLevelOut:
    """Set when a stock item counts as low and how much to order then."""
    principal.check_warehouses(warehouse_id)
    item = StockItem(sku, warehouse_id)
    await thresholds.set_thresholds(connection, item, body.reorder_point, body.reorder_quantity, if_match)
    return await _answer(connection, item, response)


@router.get("/{warehouse_id}/{sku:path}")
async def get_stock_level(
    warehouse_id: WarehouseInPath,
    sku: SkuInPath,
    connection: ReadConnection,
    _principal: Reader,
    response: Response,
    as_of: Annotated[
        InstantParameter | None, Query(alias="asOf", description="What was on hand then, by the ledger.")
    ] = None,
    basis: Annotated[AsOfBasis, Query(description="Which time asOf goes by.")] = AsOfBasis.RECORDED,
) -> StockLevelOut | StockLevelAsOfOut:
    """The level of one stock item; nothing on hand, at revision 0, where it never had any stock."""
    level = await _answer(connection, StockItem(sku, warehouse_id), response)
    if as_of is None:
        return level
    read = readings.on_hand_recorded if basis is AsOfBasis.RECORDED else readings.on_hand_occurred
    figures = await read(connection, sku, warehouse_id, as_of)
    del response.headers["ETag"]
    return StockLevelAsOfOut(sku=sku, warehouse_id=warehouse_id, as_of=as_of, basis=basis, **figures)


async def _answer(connection: Connection, item: StockItem, response: Response) -> StockLevelOut:
    row = await readings.read_level(connection, *item)
    if row is None:
        raise UnknownStockItem(f"There is no {item}")
    response.headers["ETag"] = etag(row["revision"])
    return StockLevelOut.of(row)
