"""The weekly summary: what a week brought, beside the week before it."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

DAYS = 7


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True, frozen=True)


class Totals(_Part):
    """Sums over all stock items of a week."""

    movements: int
    units_in: int
    units_out: int
    demand: Annotated[int, Field(description="Units sold minus units returned.")]
    sales_value: Annotated[Decimal, Field(description="What was sold minus what was returned, at unit price.")]
    stock_value: Annotated[Decimal, Field(description="Of what lay there at the end of the week, at unit cost.")]
    items_without_cost: Annotated[int, Field(description="Stock items on hand whose product has no unit cost.")]
    stockout_items: Annotated[int, Field(description="Stock items that ended a day empty, and had sold before.")]
    stockout_days: Annotated[int, Field(description="Days that these were empty at the end of, summed.")]


class Day(_Part):
    """One day of the week, and the same weekday before."""

    date: date
    demand: int
    demand_before: int
    stockouts: Annotated[int, Field(description="Stock items that were empty at the end of the day.")]
    stockouts_before: int


class Mover(_Part):
    """A sku that sold much."""

    sku: str
    name: str | None
    demand: int
    demand_before: int


class Stockout(_Part):
    """A stock item that was empty at the end of a day."""

    sku: str
    name: str | None
    warehouse_id: str
    days: int
    demand: int


class Warehouse(_Part):
    """One warehouse."""

    warehouse_id: str
    demand: int
    demand_before: int
    stock_value: Decimal
    stock_value_before: Decimal
    stockout_days: int


class Alerts(_Part):
    """Low stock alerts of the week."""

    opened: int
    resolved: int
    live: Annotated[int, Field(description="When the summary was calculated.")]


class WeeklySummary(_Part):
    """What a week brought. A week begins on Monday, 00:00 UTC."""

    week: Annotated[date, Field(description="Its Monday.")]
    totals: Totals
    totals_before: Totals
    days: list[Day]
    top_movers: list[Mover]
    stockouts: Annotated[list[Stockout], Field(description="The longest first.")]
    warehouses: Annotated[list[Warehouse], Field(description="Those of most stock value first.")]
    alerts: Alerts
    quality_score: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="Share of the week's ledger entries that passed their checks; null if none were made.",
        ),
    ]
    quality_score_before: Annotated[float | None, Field(ge=0, le=1)]
    quality_days: Annotated[
        int | None,
        Field(
            ge=0,
            le=DAYS,
            description="Days of the week whose entries were checked, of seven: the score is of these. "
            "Null in summaries from before this was counted.",
        ),
    ] = None
    quality_days_before: Annotated[int | None, Field(ge=0, le=DAYS)] = None

    @property
    def last_day(self) -> date:
        """Its Sunday."""
        return self.week + timedelta(days=DAYS - 1)

    @classmethod
    def read(cls, content: object) -> Self:
        """The summary in a JSON document."""
        return cls.model_validate(content)


def change(now: int | Decimal, before: int | Decimal) -> float | None:
    """(now - before) / before; None when there was nothing before."""
    return float((now - before) / before) if before > 0 else None
