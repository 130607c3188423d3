"""`transaction_aggregation`: movements by hour, day and week, for skus, warehouses and categories.

The lake's ledger is brought up to date first, as `inventory_etl` does, so that whichever of the two runs sees all.
"""

import asyncio
from collections.abc import Collection, Sequence

import ibis

from libs.chassis.database import acquired
from libs.events.failpoints import failpoint
from services.pipeline.jobs import dataset_queries, extraction, fence, sink, transformation
from services.pipeline.jobs.contract import LEDGER_ENTRIES, MOVEMENT_AGGREGATE
from services.pipeline.jobs.fence import Fence
from services.pipeline.jobs.inventory_etl import (
    SUMMED,
    days_of,
    due_days,
    engine_of,
    extract,
    kept,
    lake_table,
    names_of,
    renew_dimensions,
)
from services.pipeline.jobs.step import Context, StepResult
from services.pipeline.lake import nearest_date

DAYS_PER_WEEK = 7


async def aggregate_transactions(context: Context) -> StepResult:
    """Bring the lake's ledger up to date, and sum every day and week that is newer than its sums, in the lake.

    The dates that the interval touches, and their weeks, are summed in any case.
    """
    extracted = await extract(context, [])
    async with fence.alone(context):
        return await _sum_changed_days(context, extracted)


async def _sum_changed_days(context: Context, extracted: StepResult) -> StepResult:
    async with acquired(context.pool) as connection:
        ledger = await dataset_queries.watermarks(connection, LEDGER_ENTRIES.dataset)
        summed = await dataset_queries.watermarks(connection, SUMMED)
    due = with_mondays(due_days(ledger, summed, days_of(context.interval.dates())))
    watermark = max(ledger.values(), default=0)
    await renew_dimensions(context)
    rows_per_day = await asyncio.to_thread(_aggregate, context, due, watermark)
    async with fence.transaction(context) as connection:
        await dataset_queries.record_partitions(connection, SUMMED, rows_per_day, watermark, context.run_id)
    rows_out = sum(rows_per_day.values())
    return StepResult(
        rows_in=extracted.rows_in,
        rows_out=rows_out,
        partitions=names_of(due),
        watermark_from=extracted.watermark_from,
        watermark_to=extracted.watermark_to,
        reads=("postgres:inventory.ledger_entries_v1", "postgres:pipeline.product_versions_v1", "lake:ledger_entries"),
        writes={"lake:ledger_entries": extracted.rows_out, "lake:movement_aggregate": rows_out},
    )


@fence.one_run_at_a_time
async def load_aggregates(context: Context) -> StepResult:
    """Load the interval's sums and those that are newer than the table's, and have velocity, trend and cache of what
    moved renewed.
    """
    async with acquired(context.pool) as connection:
        summed = await dataset_queries.watermarks(connection, SUMMED)
        loaded = await dataset_queries.watermarks(connection, MOVEMENT_AGGREGATE.dataset)
    due = due_days(summed, loaded, with_mondays(days_of(context.interval.dates())))
    watermark = max(summed.values(), default=0)
    # Before they are loaded: once they are, a retry finds nothing due. A mark too many does no harm.
    async with fence.transaction(context) as connection:
        marked = await dataset_queries.mark_moved_items(connection, due)
    rows = await asyncio.to_thread(_load, context, due, watermark)
    return StepResult(
        rows_in=rows,
        rows_out=rows,
        partitions=names_of(due),
        watermark_to=watermark,
        figures={"markedStockItems": marked},
        reads=("lake:movement_aggregate",),
        writes={"postgres:pipeline.movement_aggregate": rows, "postgres:pipeline.dirty_stock_item": marked},
    )


def with_mondays(days: Collection[int]) -> list[int]:
    """The days with the Mondays of their weeks, whose partitions hold the weeks' sums; 1970 began on a Thursday."""
    return sorted({*days, *(day - (day + 3) % DAYS_PER_WEEK for day in days)})


def _aggregate(context: Context, days: Sequence[int], watermark: int) -> dict[int, int]:
    """Sum into the lake; rows per day."""
    if not days:
        return {}
    settings = context.settings
    dimensions = extraction.read_dimensions(settings.database_url.get_secret_value())
    with engine_of(settings) as engine:
        source = lake_table(settings, LEDGER_ENTRIES)
        entries = engine.read(source.files(days[0], days[-1] + DAYS_PER_WEEK - 1), LEDGER_ENTRIES.schema)
        products = engine.table(dimensions.products)
        sums = ibis.union(*(transformation.aggregates(entries, products, grain) for grain in ("hour", "day", "week")))
        dated = sums.mutate(day=(sums.bucket_hour // transformation.HOURS_PER_DAY).cast("int32"))
        wanted = dated.semi_join(engine.days(days), "day")
        rows = kept(engine.rows(wanted, MOVEMENT_AGGREGATE.schema), MOVEMENT_AGGREGATE)
        replaced = lake_table(settings, MOVEMENT_AGGREGATE).replace(days, Fence.of(context).rows(rows), watermark)
    failpoint(f"batch.{MOVEMENT_AGGREGATE.dataset}.in_lake")
    return {day: replaced[nearest_date(day)] for day in days}


def _load(context: Context, days: Sequence[int], watermark: int) -> int:
    if not days:
        return 0
    table = lake_table(context.settings, MOVEMENT_AGGREGATE)
    return sink.replace_dates(
        context.settings.database_url.get_secret_value(),
        sink.MOVEMENT_AGGREGATE,
        days,
        table.rows(days, MOVEMENT_AGGREGATE.schema),
        watermark,
        Fence.of(context),
    )
