"""The events that tell others what was calculated."""

from datetime import datetime

import asyncpg

from libs.events.analytics import (
    DemandWindow,
    InventoryProcessed,
    MetricsCalculated,
    TrendAnalyzed,
    TrendDirection,
    VelocityCalculated,
)
from libs.events.envelope import document_event_id, stock_item_event_id, stock_item_key
from libs.events.inventory import TransactionType
from services.pipeline.velocity import WINDOWS_DAYS

SOURCE = "pipeline-metrics"
BATCH = "pipeline-batch"
MOST_UNITS = 2**63 - 1
"""Consumers keep 64 bits, so an event says no more than this; the facts are exact."""


def velocity_calculated(metric: asyncpg.Record) -> VelocityCalculated:
    """The event of a row of `stock_metric`."""
    return VelocityCalculated(
        event_id=stock_item_event_id("VELOCITY_CALCULATED", metric["warehouse_id"], metric["sku"], metric["revision"]),
        sku=metric["sku"],
        warehouse_id=metric["warehouse_id"],
        timestamp=metric["calculated_at"],
        recorded_at=metric["calculated_at"],
        source=SOURCE,
        revision=metric["revision"],
        as_of=metric["as_of"],
        windows=[
            DemandWindow(
                days=days,
                demand=metric[f"demand_{days}"],
                velocity_per_day=metric[f"velocity_{days}"],
                sd_daily_demand=metric[f"sd_daily_{days}"],
            )
            for days in WINDOWS_DAYS
        ],
    )


def trend_analyzed(metric: asyncpg.Record) -> TrendAnalyzed:
    """The event of a row of `stock_metric`."""
    return TrendAnalyzed(
        event_id=stock_item_event_id("TREND_ANALYZED", metric["warehouse_id"], metric["sku"], metric["revision"]),
        sku=metric["sku"],
        warehouse_id=metric["warehouse_id"],
        timestamp=metric["calculated_at"],
        recorded_at=metric["calculated_at"],
        source=SOURCE,
        revision=metric["revision"],
        as_of=metric["as_of"],
        change_ratio_30d=metric["change_ratio_30d"],
        slope_per_day=metric["slope_per_day"],
        t_statistic=metric["t_statistic"],
        direction=TrendDirection(metric["direction"]),
    )


def metrics_calculated(metric: asyncpg.Record, revision: int, at: datetime) -> MetricsCalculated:
    """The event of a row of `daily_metric`."""
    return MetricsCalculated(
        event_id=stock_item_event_id("METRICS_CALCULATED", metric["warehouse_id"], metric["sku"], revision),
        sku=metric["sku"],
        warehouse_id=metric["warehouse_id"],
        timestamp=at,
        recorded_at=at,
        source=BATCH,
        revision=revision,
        as_of=metric["date"],
        turnover=metric["turnover_30"],
        days_of_supply=metric["days_of_supply"],
        stockout_risk=metric["stockout_risk"],
        abc_class=metric["abc_class"],
        xyz_class=metric["xyz_class"],
    )


def inventory_processed(fact: asyncpg.Record, recorded_at: datetime) -> InventoryProcessed:
    """The event of a row of hourly facts."""
    bucket = (
        f"{stock_item_key(fact['warehouse_id'], fact['sku'])}:"
        f"{fact['bucket_start'].isoformat()}:{fact['transaction_type']}"
    )
    return InventoryProcessed(
        event_id=document_event_id("INVENTORY_PROCESSED", bucket, fact["revision"]),
        sku=fact["sku"],
        warehouse_id=fact["warehouse_id"],
        timestamp=fact["last_event_at"],
        recorded_at=recorded_at,
        source=SOURCE,
        revision=fact["revision"],
        bucket_start=fact["bucket_start"],
        transaction_type=TransactionType(fact["transaction_type"]),
        movements=fact["movements"],
        units_in=min(int(fact["units_in"]), MOST_UNITS),
        units_out=min(int(fact["units_out"]), MOST_UNITS),
    )
