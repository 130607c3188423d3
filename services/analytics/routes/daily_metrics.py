"""Metrics that the daily batch calculates, of every date that has not failed its quality check."""

from datetime import date
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from libs.chassis.database import ReadConnection
from libs.chassis.model import RowModel
from libs.chassis.paging import Page, Paging
from services.analytics import queries
from services.analytics.routes.parameters import VisibleItems

router = APIRouter(prefix="/api/v1/metrics", tags=["metrics"])

AbcClass = Literal["A", "B", "C"]
XyzClass = Literal["X", "Y", "Z"]
ORDER = ("sku", "warehouse_id")
AsOf = Annotated[
    date | None,
    Query(
        alias="asOf",
        description="UTC date that ends every window; the latest where left out. Name it to read several pages.",
    ),
]
DaysOfSupply = Annotated[float | None, Field(description="Stock on hand / velocity over 30 days; null without demand.")]


class StockItemFigures(RowModel):
    """Figures of a stock item as of the end of a UTC day."""

    sku: str
    warehouse_id: str
    as_of: date


class TurnoverOut(StockItemFigures):
    """How often the stock of an item is sold in a year, and how long it lasts."""

    turnover_30: Annotated[
        float | None,
        Field(
            description="Units sold in 30 days / mean stock at the end of a day, times 365 / 30; null without stock."
        ),
    ]
    turnover_90: Annotated[float | None, Field(description="The same over 90 days.")]
    days_of_supply: DaysOfSupply


class StockoutRiskOut(StockItemFigures):
    """How likely the stock of an item does not last until a delivery could arrive."""

    stockout_risk: Annotated[
        float | None, Field(ge=0, le=1, description="P(demand until the next possible delivery > stock on hand).")
    ]
    days_of_supply: DaysOfSupply


class ClassesOut(StockItemFigures):
    """Classes of a stock item among all those of its warehouse."""

    abc_class: Annotated[
        AbcClass | None, Field(description="By use value of 90 days; null with demand and no known cost.")
    ]
    xyz_class: Annotated[
        XyzClass | None, Field(description="By how much daily demand of 90 days varies; null without demand.")
    ]


@router.get("/turnover")
async def list_turnover(
    connection: ReadConnection, paging: Paging, items: VisibleItems, as_of: AsOf = None
) -> Page[TurnoverOut]:
    """Turnover and days of supply per stock item, in order of sku and warehouse."""
    rows = await queries.list_daily_metrics(connection, paging, items, as_of)
    return paging.page(rows, ORDER, TurnoverOut.of)


@router.get("/stockout-risk")
async def list_stockout_risk(
    connection: ReadConnection, paging: Paging, items: VisibleItems, as_of: AsOf = None
) -> Page[StockoutRiskOut]:
    """Risk of stockout per stock item, in order of sku and warehouse."""
    rows = await queries.list_daily_metrics(connection, paging, items, as_of)
    return paging.page(rows, ORDER, StockoutRiskOut.of)


@router.get("/classes")
async def list_classes(
    connection: ReadConnection,
    paging: Paging,
    items: VisibleItems,
    as_of: AsOf = None,
    abc_class: Annotated[AbcClass | None, Query(alias="abcClass")] = None,
    xyz_class: Annotated[XyzClass | None, Query(alias="xyzClass")] = None,
) -> Page[ClassesOut]:
    """ABC and XYZ class per stock item, in order of sku and warehouse."""
    rows = await queries.list_daily_metrics(connection, paging, items, as_of, abc_class=abc_class, xyz_class=xyz_class)
    return paging.page(rows, ORDER, ClassesOut.of)
