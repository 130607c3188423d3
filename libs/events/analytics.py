"""Events of the topic `analytics-events`, published by the pipeline service."""

from datetime import date
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from libs.events.envelope import (
    Count,
    Event,
    Figure,
    Instant,
    JsonObject,
    Number,
    SmallNumber,
    StockItemEvent,
    Units,
    WireModel,
)
from libs.events.inventory import TransactionType


class _StockItemMetric(StockItemEvent):
    quantity_change: Literal[0] = 0
    revision: Annotated[Number, Field(description="Apply when larger than the stored one.")]


class InventoryProcessed(_StockItemMetric):
    """The processed fact: totals of one stock item, hour and transaction type as they now stand."""

    event_type: Literal["INVENTORY_PROCESSED"] = "INVENTORY_PROCESSED"
    bucket_start: Instant
    bucket_seconds: Literal[3600] = 3600
    transaction_type: TransactionType
    movements: Count
    units_in: Count
    units_out: Count


class DemandWindow(WireModel):
    """Demand of the last `days` UTC days up to and with `as_of`, days without movements included."""

    days: SmallNumber
    demand: Units
    velocity_per_day: Figure
    sd_daily_demand: Annotated[Figure, Field(ge=0, description="Sample standard deviation of one day's demand.")]


class VelocityCalculated(_StockItemMetric):
    """Velocity of a stock item over 7, 30 and 90 days."""

    event_type: Literal["VELOCITY_CALCULATED"] = "VELOCITY_CALCULATED"
    as_of: date
    windows: list[DemandWindow]


class TrendDirection(StrEnum):
    """Where demand goes, by the t-statistic of the slope."""

    UP = "UP"
    DOWN = "DOWN"
    FLAT = "FLAT"


class TrendAnalyzed(_StockItemMetric):
    """Trend of the daily demand of a stock item over the last 30 days."""

    event_type: Literal["TREND_ANALYZED"] = "TREND_ANALYZED"
    as_of: date
    change_ratio_30d: Annotated[Figure | None, Field(alias="changeRatio30d")]
    slope_per_day: Figure
    t_statistic: Figure | None
    direction: TrendDirection


class MetricsCalculated(_StockItemMetric):
    """Metrics of a stock item after a batch run."""

    event_type: Literal["METRICS_CALCULATED"] = "METRICS_CALCULATED"
    as_of: date
    turnover: Figure | None
    days_of_supply: Figure | None
    stockout_risk: Annotated[Figure, Field(ge=0, le=1)] | None
    abc_class: Literal["A", "B", "C"] | None
    xyz_class: Literal["X", "Y", "Z"] | None


class Severity(StrEnum):
    """How bad it is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class LowStockAlert(_StockItemMetric):
    """A stock item is low, or likely to run out before the next possible delivery."""

    event_type: Literal["LOW_STOCK_ALERT"] = "LOW_STOCK_ALERT"
    alert_id: UUID
    severity: Severity
    quantity_available: Count
    reorder_point: Count | None
    stockout_risk: Annotated[Figure, Field(ge=0, le=1)] | None
    suggested_action: str


class DataQualityAlert(Event):
    """A data quality rule failed."""

    event_type: Literal["DATA_QUALITY_ALERT"] = "DATA_QUALITY_ALERT"
    quantity_change: Literal[0] = 0
    alert_id: UUID
    revision: Number
    rule_id: str
    severity: Severity
    failed: Count
    figures: JsonObject
    suggested_action: str

    @property
    def key(self) -> str:
        return str(self.alert_id)


AnalyticsEvent = Annotated[
    InventoryProcessed | VelocityCalculated | TrendAnalyzed | MetricsCalculated | LowStockAlert | DataQualityAlert,
    Field(discriminator="event_type"),
]
