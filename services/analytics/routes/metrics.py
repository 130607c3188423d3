"""Metrics: how fast stock items sell, where demand goes, what moves most, and totals."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from libs.chassis.database import ReadConnection
from libs.chassis.model import ApiModel, RowModel
from libs.chassis.paging import Page, Paging
from services.analytics import queries
from services.analytics.routes.parameters import AnswerCache, VisibleItems, VisibleWarehouses

router = APIRouter(prefix="/api/v1/metrics", tags=["metrics"])

WINDOWS = (7, 30, 90)


class WindowOut(ApiModel):
    """Demand of the last `days` UTC days up to and with `asOf`, days without movements included."""

    days: int
    demand: Annotated[int, Field(description="Units out by SALE minus units in by RETURN.")]
    velocity_per_day: float
    sd_daily_demand: Annotated[float | None, Field(description="Sample standard deviation; null for a sum.")]


class VelocityOut(ApiModel):
    """Velocity of a stock item, or of a sku over all its warehouses."""

    sku: str
    warehouse_id: Annotated[str | None, Field(description="null for a sum of warehouses")]
    as_of: date
    windows: list[WindowOut]
    revision: int
    calculated_at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "VelocityOut":
        """The velocity in a row; it is summed when the row has no warehouse."""
        return cls(
            sku=row["sku"],
            warehouse_id=row.get("warehouse_id"),
            as_of=row["as_of"],
            windows=[
                WindowOut(
                    days=days,
                    demand=int(row[f"demand_{days}"]),
                    velocity_per_day=int(row[f"demand_{days}"]) / days,
                    sd_daily_demand=row.get(f"sd_daily_{days}"),
                )
                for days in WINDOWS
            ],
            revision=row["revision"],
            calculated_at=row["calculated_at"],
        )


class TrendOut(RowModel):
    """Trend of the daily demand of a stock item over the last 30 days."""

    sku: str
    warehouse_id: str
    as_of: date
    change_ratio_30d: Annotated[
        float | None, Field(alias="changeRatio30d", description="Against the 30 days before; null when those are 0.")
    ]
    slope_per_day: Annotated[float, Field(description="Least squares, in units per day and day.")]
    t_statistic: float | None
    direction: Literal["UP", "DOWN", "FLAT"]
    revision: int
    calculated_at: datetime


class TopMoverOut(ApiModel):
    """One sku in the ranking."""

    rank: int
    sku: str
    net_units: Annotated[int, Field(description="Demand: units out by SALE minus units in by RETURN.")]
    velocity_per_day: float
    gross_units_out: int
    gross_units_in: int
    movements: int
    warehouses: int


class TopMoversOut(ApiModel):
    """Skus by demand in a period of whole UTC days."""

    as_of: date | None
    days: int
    date_from: date | None
    date_to: date | None
    items: list[TopMoverOut]


class SummaryOut(ApiModel):
    """Totals over all facts. An opening balance is no movement and counts nowhere."""

    as_of: date | None
    movements: Annotated[int, Field(description="Ledger entries.")]
    net_units_sold: Annotated[int, Field(description="Units out by SALE minus units in by RETURN.")]
    gross_units_out: int
    gross_units_in: int
    quantity_change: Annotated[int, Field(description="Units in minus units out.")]
    distinct_references: int
    distinct_skus: int
    distinct_warehouses: int
    distinct_stock_items: int
    days_with_movements: int
    first_timestamp: datetime | None
    last_timestamp: datetime | None


@router.get("/velocity")
async def list_velocity(
    connection: ReadConnection,
    paging: Paging,
    items: VisibleItems,
    group_by: Annotated[Literal["stockItem", "sku"], Query(alias="groupBy")] = "stockItem",
) -> Page[VelocityOut]:
    """Velocity over 7, 30 and 90 days per stock item, or with `groupBy=sku` per sku over its warehouses."""
    if group_by == "stockItem":
        rows = await queries.list_metrics(connection, paging, items)
        return paging.page(rows, ("sku", "warehouse_id"), VelocityOut.of)
    as_of = await queries.metrics_date(connection)
    rows = await queries.list_demand_by_sku(connection, paging, items, as_of)
    return paging.page(rows, ("sku",), VelocityOut.of)


@router.get("/trends")
async def list_trends(connection: ReadConnection, paging: Paging, items: VisibleItems) -> Page[TrendOut]:
    """Trend per stock item, in order of sku and warehouse."""
    rows = await queries.list_metrics(connection, paging, items)
    return paging.page(rows, ("sku", "warehouse_id"), TrendOut.of)


@router.get("/top-movers")
async def top_movers(
    connection: ReadConnection,
    cache: AnswerCache,
    items: VisibleWarehouses,
    days: Annotated[Literal["7", "30", "90"], Query(description="Length of the period that ends with asOf.")] = "7",
    limit: Annotated[int, Query(ge=1, le=500)] = 20,
) -> TopMoversOut:
    """The skus with most demand, ties in byte order of the sku. Never older than the facts."""
    last = await queries.metrics_date(connection)
    period = int(days)

    async def compute() -> TopMoversOut:
        if last is None:
            return TopMoversOut(as_of=None, days=period, date_from=None, date_to=None, items=[])
        first = last - timedelta(days=period - 1)
        rows = await queries.top_movers(connection, first, last, items.warehouses, limit)
        ranked = [_top_mover(rank, row, period) for rank, row in enumerate(rows, start=1)]
        return TopMoversOut(as_of=last, days=period, date_from=first, date_to=last, items=ranked)

    version = f"{await queries.facts_version(connection)}:{last}"
    return await cache.answer("top-movers", version, f"{period} {limit} {items.warehouses}", TopMoversOut, compute)


@router.get("/summary")
async def summary(connection: ReadConnection, cache: AnswerCache, items: VisibleWarehouses) -> SummaryOut:
    """Totals over everything. Never older than the facts."""
    as_of, warehouses = await queries.metrics_date(connection), items.warehouses

    async def compute() -> SummaryOut:
        movements = await queries.movement_totals(connection, warehouses)
        if warehouses is None:
            return _summary(as_of, movements, await queries.document_totals(connection))
        return _summary(as_of, movements, await queries.document_totals_of(connection, warehouses))

    version = f"{await queries.facts_version(connection)}:{as_of}"
    return await cache.answer("summary", version, str(warehouses), SummaryOut, compute)


def _top_mover(rank: int, row: Mapping[str, Any], days: int) -> TopMoverOut:
    return TopMoverOut(
        rank=rank,
        sku=row["sku"],
        net_units=int(row["net_units"]),
        velocity_per_day=int(row["net_units"]) / days,
        gross_units_out=int(row["units_out"]),
        gross_units_in=int(row["units_in"]),
        movements=int(row["movements"]),
        warehouses=row["warehouses"],
    )


def _summary(as_of: date | None, movements: Mapping[str, Any], documents: Mapping[str, Any]) -> SummaryOut:
    return SummaryOut(
        as_of=as_of,
        movements=int(movements["movements"]),
        net_units_sold=int(movements["net_units_sold"]),
        gross_units_out=int(movements["units_out"]),
        gross_units_in=int(movements["units_in"]),
        quantity_change=int(movements["units_in"] - movements["units_out"]),
        distinct_references=documents["references"],
        distinct_skus=movements["skus"],
        distinct_warehouses=movements["warehouses"],
        distinct_stock_items=movements["stock_items"],
        days_with_movements=movements["days"],
        first_timestamp=documents["first_at"],
        last_timestamp=documents["last_at"],
    )
