"""Movements, summed."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from libs.chassis.database import ReadConnection
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging
from libs.events.envelope import Sku, WarehouseId
from libs.events.inventory import TransactionType
from services.pipeline import queries
from services.pipeline.queries import GroupBy
from services.pipeline.routes.access import Reader

router = APIRouter(prefix="/api/v1/daily-movements", tags=["movements"])


class MovementSumOut(ApiModel):
    """Movements of one date, warehouse or sku. Of the three, only what was grouped by is given."""

    date: str | None = None
    warehouse_id: str | None = None
    sku: str | None = None
    movements: int
    units_in: int
    units_out: int
    demand: Annotated[int, Field(description="Units out minus units in by SALE and RETURN.")]
    value: Annotated[
        Decimal,
        Field(description="Sum of quantityChange x unitPrice (SALE, RETURN) or unitCost: negative for what went out."),
    ]


@router.get("")
async def list_daily_movements(
    connection: ReadConnection,
    paging: Paging,
    principal: Reader,
    group_by: Annotated[GroupBy, Query(alias="groupBy")] = GroupBy.DATE,
    date_from: Annotated[date | None, Query(alias="dateFrom", description="First UTC date.")] = None,
    date_to: Annotated[date | None, Query(alias="dateTo", description="Last UTC date.")] = None,
    sku: Annotated[Sku | None, Query()] = None,
    warehouse_id: Annotated[WarehouseId | None, Query(alias="warehouseId")] = None,
    transaction_type: Annotated[TransactionType | None, Query(alias="transactionType")] = None,
) -> Page[MovementSumOut]:
    """Movements summed by date, warehouse or sku. Opening balances are no movements: ask for them by type."""
    conditions = queries.movement_conditions(
        date_from=date_from,
        date_to=date_to,
        sku=sku,
        warehouse_id=warehouse_id,
        transaction_type=transaction_type,
        warehouses=principal.warehouses,
    )
    rows = await queries.sum_movements(connection, group_by, conditions, paging)

    def answer(row: Mapping[str, Any]) -> MovementSumOut:
        return MovementSumOut(
            date=row["key"] if group_by is GroupBy.DATE else None,
            warehouse_id=row["key"] if group_by is GroupBy.WAREHOUSE else None,
            sku=row["key"] if group_by is GroupBy.SKU else None,
            movements=int(row["movements"]),
            units_in=int(row["units_in"]),
            units_out=int(row["units_out"]),
            demand=int(row["demand"]),
            value=row["value"],
        )

    return paging.page(rows, ("key",), answer)
