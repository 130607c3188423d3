"""Stock levels: how many units of a sku are in a warehouse, and when that counts as low."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import asyncpg
from fastapi import APIRouter, Query, Request, Response

from libs.chassis.coalescing import Coalesced
from libs.chassis.database import ReadConnection, WriteConnection, acquired, fetch_all, fetch_one
from libs.chassis.etag import IfMatch, etag
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging, keyset
from libs.chassis.problems import Problem
from libs.events.envelope import Sku, WarehouseId
from libs.events.inventory import StockStatus
from services.inventory import thresholds
from services.inventory.queries import readings
from services.inventory.refusal import UnknownStockItem
from services.inventory.routes.access import Operator, Reader, SkuInPath, WarehouseInPath, refusals, visible_items
from services.inventory.schemas.fields import InstantParameter, Quantity
from services.inventory.schemas.stock import AsOfBasis, StockLevelAsOfOut, StockLevelOut, ThresholdsIn
from services.inventory.stock import StockItem
from services.inventory.tables import stock_level

AsOf = Annotated[InstantParameter | None, Query(alias="asOf", description="What was on hand then, by the ledger.")]
Basis = Annotated[AsOfBasis, Query(description="Which time asOf goes by.")]
_AS_OF = {AsOfBasis.RECORDED: readings.recorded_levels, AsOfBasis.OCCURRED: readings.occurred_levels}

router = APIRouter(prefix="/api/v1/stock-levels", tags=["stock"], responses=refusals(409, 412, 428))


@router.get("", response_model=Page[StockLevelOut] | Page[StockLevelAsOfOut])
async def list_stock_levels(
    connection: ReadConnection,
    principal: Reader,
    paging: Paging,
    sku: Annotated[Sku | None, Query()] = None,
    warehouse_id: Annotated[WarehouseId | None, Query(alias="warehouseId")] = None,
    status: Annotated[StockStatus | None, Query()] = None,
    available_lt: Annotated[Quantity | None, Query(alias="availableLt", description="Fewer than this.")] = None,
    as_of: AsOf = None,
    basis: Basis = AsOfBasis.RECORDED,
) -> Response | Page[StockLevelAsOfOut]:
    """Stock levels by sku and warehouse; with asOf what was on hand then, which takes no `status` or `availableLt`."""
    if as_of is not None and not (status is None and available_lt is None):
        raise Problem(422, "validation-failed", "asOf is of quantities on hand: it takes no status or availableLt.")
    statement = readings.stock_levels() if as_of is None else _AS_OF[basis](as_of)
    statement = statement.where(visible_items(principal, stock_level))
    if sku is not None:
        statement = statement.where(stock_level.c.sku == sku)
    if warehouse_id is not None:
        statement = statement.where(stock_level.c.warehouse_id == warehouse_id)
    if status is not None:
        statement = statement.where(readings.status == status.value)
    if available_lt is not None:
        statement = statement.where(readings.available < available_lt)
    rows = await fetch_all(connection, keyset(statement, [stock_level.c.sku, stock_level.c.warehouse_id], paging))
    if as_of is None:
        return paging.page_of_rows(rows, ["sku", "warehouse_id"], StockLevelOut)
    return paging.page(rows, ["sku", "warehouse_id"], partial(_as_of, as_of, basis))


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
    level = _known((await readings.read_levels(connection, [item])).get(item), item)
    response.headers["ETag"] = etag(level["revision"])
    return StockLevelOut.of(level)


@router.get("/{warehouse_id}/{sku:path}", response_model=StockLevelOut | StockLevelAsOfOut)
async def get_stock_level(
    warehouse_id: WarehouseInPath,
    sku: SkuInPath,
    request: Request,
    principal: Reader,
    as_of: AsOf = None,
    basis: Basis = AsOfBasis.RECORDED,
) -> Response:
    """The level of one stock item; nothing on hand, at revision 0, where it never had any stock."""
    principal.check_warehouses(warehouse_id)
    item = StockItem(sku, warehouse_id)
    levels: Coalesced[StockItem, asyncpg.Record] = request.app.state.levels
    level = _known(await levels.read(item), item)
    if as_of is None:
        return _json(StockLevelOut.of(level), {"ETag": etag(level["revision"])})
    this = (stock_level.c.sku == sku) & (stock_level.c.warehouse_id == warehouse_id)
    async with acquired(request.app.state.pool) as connection:
        row = await fetch_one(connection, _AS_OF[basis](as_of).where(this))
    never = {"sku": sku, "warehouse_id": warehouse_id, "quantity_on_hand": 0, "entries": 0}
    return _json(_as_of(as_of, basis, row or never))


def _json(body: ApiModel, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(by_alias=True), headers=headers, media_type="application/json")


def _as_of(as_of: datetime, basis: AsOfBasis, row: asyncpg.Record | Mapping[str, Any]) -> StockLevelAsOfOut:
    return StockLevelAsOfOut.of({**row, "as_of": as_of, "basis": basis})


def _known(level: asyncpg.Record | None, item: StockItem) -> asyncpg.Record:
    if level is None:
        raise UnknownStockItem(f"There is no {item}")
    return level
