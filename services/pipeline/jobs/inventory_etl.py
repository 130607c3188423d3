"""`inventory_etl`: the ledger into the lake, then daily snapshots, then their metrics; and whether all of it is right.

Each step replaces the dates of its interval, whatever they hold, and those of which what it reads has become newer than
what it wrote: those that new entries belong to, however late they come, and those that follow from them. So a step that
is repeated, late, or the first in a year ends with the same rows. With the parameter `full` it also replaces the later
dates that follow from those of the interval.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from itertools import accumulate

import pyarrow as pa
from ibis import ir
from pydantic import JsonValue

from libs.chassis.database import acquired
from libs.events import outbox
from libs.events.failpoints import failpoint
from services.pipeline import dimension_queries, metric_events, metric_queries
from services.pipeline.jobs import copies, dataset_queries, extraction, fence, sink, transformation
from services.pipeline.jobs.contract import (
    DAILY_METRIC,
    DAILY_SNAPSHOT,
    ITEM_DAYS,
    LEDGER_ENTRIES,
    MOVEMENT_AGGREGATE,
    Contract,
)
from services.pipeline.jobs.engine import Engine, open_engine
from services.pipeline.jobs.extraction import Fingerprint
from services.pipeline.jobs.fence import Fence
from services.pipeline.jobs.sink import Target
from services.pipeline.jobs.step import Context, StepResult
from services.pipeline.lake import PartitionedTable, nearest_date
from services.pipeline.settings import Settings
from services.pipeline.stockout import stockout_risks
from services.pipeline.trend import TREND_DAYS
from services.pipeline.velocity import WINDOWS_DAYS

FIRST_OF_1970 = date(1970, 1, 1).toordinal()
EVENTS_PER_TRANSACTION = 2_000
LONGEST_WINDOW_DAYS = max(WINDOWS_DAYS)
SUMMED = f"lake.{MOVEMENT_AGGREGATE.dataset}"
_ANNOUNCED = f"kafka.{DAILY_METRIC.dataset}"


class NotCalculatedYet(Exception):
    """A part of a partition cannot be replaced before there is the whole."""


class QualityFailed(Exception):
    """A blocking check failed; the dates it failed on are not published."""


async def extract_inventory_data(context: Context) -> StepResult:
    """Replace the changed days of the ledger in the lake, without the rows that break a blocking rule."""
    own = days_of(context.interval.closed_dates())
    if context.warehouse_id is None:
        return await extract(context, own)
    async with acquired(context.pool) as connection:
        _check_calculated(own, await dataset_queries.watermarks(connection, LEDGER_ENTRIES.dataset))
    return await _extract_warehouse(context, context.warehouse_id, own)


async def extract(context: Context, own: Sequence[int]) -> StepResult:
    """Bring the lake's ledger up to date, of all warehouses, and replace these days in any case."""
    async with acquired(context.pool) as connection:
        since = await dataset_queries.watermark(connection, LEDGER_ENTRIES.dataset)
    damaged = await _differing_days(context, LEDGER_ENTRIES)
    extracted = await asyncio.to_thread(
        extraction.extract_ledger,
        source_url(context.settings),
        lake_table(context.settings, LEDGER_ENTRIES),
        since,
        [*own, *damaged],
        Fence.of(context),
        context.progress,
    )
    failpoint("batch.ledger_entries.committed")
    days, rows_out = sorted(extracted.rows_per_day), sum(extracted.rows_per_day.values())
    async with fence.transaction(context) as connection:
        good_before = await dataset_queries.good_rows(connection, LEDGER_ENTRIES.dataset, days)
        await dataset_queries.replace_quarantine(
            connection, LEDGER_ENTRIES.dataset, days, extracted.bad_rows, context.run_id
        )
        rows_per_day = extracted.rows_per_day.items()
        unchanged = {day for day, rows in rows_per_day if rows == good_before.get(day)}
        unchanged -= extracted.changed_days | damaged | {bad.day for bad in extracted.bad_rows}
        changed_rows = {day: rows for day, rows in rows_per_day if day not in unchanged}
        await dataset_queries.record_partitions(
            connection, LEDGER_ENTRIES.dataset, changed_rows, extracted.watermark_to, context.run_id
        )
        # Nothing follows from days that hold what they held before.
        same_rows = {day: rows for day, rows in rows_per_day if day in unchanged}
        await dataset_queries.record_repeats(connection, LEDGER_ENTRIES.dataset, same_rows, context.run_id)
        await dataset_queries.advance_watermark(connection, LEDGER_ENTRIES.dataset, extracted.watermark_to)
    if extracted.bad_rows:
        context.log("rows.quarantined", level="warning", rows=len(extracted.bad_rows))
    return StepResult(
        rows_in=extracted.rows_read,
        rows_out=rows_out,
        partitions=names_of(days),
        watermark_from=extracted.watermark_from,
        watermark_to=extracted.watermark_to,
        figures={"quarantined": len(extracted.bad_rows)},
        reads=("postgres:inventory.ledger_entries_v1",),
        writes={"lake:ledger_entries": rows_out, "postgres:pipeline.quarantine": len(extracted.bad_rows)},
    )


async def _extract_warehouse(context: Context, warehouse_id: str, days: Sequence[int]) -> StepResult:
    """Replace one warehouse's part of these days. Watermarks stay: the next run of all reads on from the last one."""
    extracted = await asyncio.to_thread(
        extraction.extract_warehouse,
        source_url(context.settings),
        lake_table(context.settings, LEDGER_ENTRIES),
        warehouse_id,
        days,
        Fence.of(context),
        context.progress,
    )
    async with fence.transaction(context) as connection:
        good_before = await dataset_queries.good_rows(connection, LEDGER_ENTRIES.dataset, days)
        await dataset_queries.replace_quarantine(
            connection, LEDGER_ENTRIES.dataset, days, extracted.bad_rows, context.run_id, warehouse_id
        )
        await dataset_queries.record_repeats(connection, LEDGER_ENTRIES.dataset, extracted.rows_per_day, context.run_id)
        # This run cannot mend the sums, which reach across warehouses.
        sums = (SUMMED, MOVEMENT_AGGREGATE.dataset)
        await dataset_queries.forget(connection, sums, set(days) - good_before.keys())
    rows_out = extracted.rows_read - len(extracted.bad_rows)
    return StepResult(
        rows_in=extracted.rows_read,
        rows_out=rows_out,
        partitions=names_of(days),
        watermark_to=extracted.watermark_to,
        figures={"quarantined": len(extracted.bad_rows)},
        reads=("postgres:inventory.ledger_entries_v1",),
        writes={"lake:ledger_entries": rows_out, "postgres:pipeline.quarantine": len(extracted.bad_rows)},
    )


@fence.one_run_at_a_time
async def transform_and_load(context: Context) -> StepResult:
    """Sum the changed days per stock item, then take a snapshot of every day that follows from them."""
    async with acquired(context.pool) as connection:
        ledger = await dataset_queries.watermarks(connection, LEDGER_ENTRIES.dataset)
        summed = await dataset_queries.watermarks(connection, ITEM_DAYS.dataset)
        taken = await dataset_queries.watermarks(connection, DAILY_SNAPSHOT.dataset)
    own = days_of(context.interval.closed_dates())
    if context.warehouse_id is None:
        damaged = await _differing_days(context, ITEM_DAYS)
        changed = due_days(ledger, summed, damaged.union(own))
        wanted = _with_what_follows(context, own, taken)
        wanted += (day for day in taken if damaged and day >= min(damaged))
        due = due_days(_newest_until(ledger, {*own, *taken}), taken, wanted)
    else:
        _check_calculated(own, summed.keys() & taken.keys())
        changed, due = own, _with_what_follows(context, own, taken)
    watermark = max(ledger.values(), default=0)
    rows_per_day = await asyncio.to_thread(_sum_days, context, changed, watermark)
    failpoint("batch.item_days.committed")
    async with fence.transaction(context) as connection:
        if context.warehouse_id is not None:
            await dataset_queries.record_repeats(connection, ITEM_DAYS.dataset, rows_per_day, context.run_id)
        else:
            await dataset_queries.record_partitions(
                connection, ITEM_DAYS.dataset, rows_per_day, watermark, context.run_id
            )
    await renew_dimensions(context)
    rows_out = await asyncio.to_thread(_take_snapshots, context, due, watermark)
    summed_rows = sum(rows_per_day.values())
    return StepResult(
        rows_in=summed_rows,
        rows_out=rows_out,
        partitions=names_of(due),
        watermark_to=watermark,
        figures={"summedDays": len(changed)},
        reads=(
            "lake:ledger_entries",
            *(f"postgres:pipeline.{name}_versions_v1" for name in ("product", "category", "warehouse")),
        ),
        writes={
            "lake:item_days": summed_rows,
            "lake:daily_snapshot": rows_out,
            "postgres:pipeline.daily_snapshot": rows_out,
        },
    )


@fence.one_run_at_a_time
async def generate_aggregated_metrics(context: Context) -> StepResult:
    """Calculate the metrics of every snapshot that is newer than its metrics, and publish those of the latest day."""
    async with acquired(context.pool) as connection:
        taken = await dataset_queries.watermarks(connection, DAILY_SNAPSHOT.dataset)
        calculated = await dataset_queries.watermarks(connection, DAILY_METRIC.dataset)
    own = days_of(context.interval.closed_dates())
    wanted = _with_what_follows(context, own, taken)
    if context.warehouse_id is None:
        due = due_days(taken, calculated, wanted)
    else:
        _check_calculated(wanted, calculated)
        due = wanted
    watermark = max(taken.values(), default=0)
    rows_out = await asyncio.to_thread(_calculate_metrics, context, due, watermark)
    published = await _announce(context, max(taken), has_changed=max(taken) in due) if taken else 0
    return StepResult(
        rows_in=rows_out,
        rows_out=rows_out,
        partitions=names_of(due),
        watermark_to=watermark,
        figures={"publishedEvents": published},
        reads=("lake:item_days", "lake:daily_snapshot", "postgres:pipeline.product_versions_v1"),
        writes={
            "lake:daily_metric": rows_out,
            "postgres:pipeline.daily_metric": rows_out,
            "kafka:analytics-events": published,
        },
    )


async def data_quality_check(context: Context) -> StepResult:
    """Compare the lake's ledger with its source: the interval's days, and those that have changed or failed since.

    The days on which a blocking check fails are not published. Raises QualityFailed for those that became newer, lie
    in the interval, or were found by a run of it; what was told of by earlier runs is a warning until it is mended.
    Days of which the lake holds warehouses as of different watermarks are left to the check after the next extraction,
    which replaces them. Copies that other consumers keep may be late, so their differences only warn.
    """
    async with acquired(context.pool) as connection:
        extracted = await dataset_queries.watermarks(connection, LEDGER_ENTRIES.dataset)
        checks = await dataset_queries.quality_checks(connection, context.interval.start, context.interval.end)
    own = days_of(context.interval.closed_dates())
    new = set(due_days(extracted, {day: check.watermark for day, check in checks.items()}, own))
    failed_before = {day for day, check in checks.items() if check.has_failed} & extracted.keys()
    answered_for = new | {day for day in failed_before if checks[day].is_of_interval}
    if context.warehouse_id is not None:
        _check_calculated(own, extracted)
        new = failed_before = answered_for = set(own)
    checked = {day: extracted[day] for day in sorted(new | failed_before)}
    if not checked:
        return StepResult()
    expected, found, moving = await asyncio.to_thread(_fingerprints, context, checked)
    async with acquired(context.pool) as connection:
        bad = await dataset_queries.quarantined(connection, LEDGER_ENTRIES.dataset, list(checked), context.warehouse_id)
    if left := names_of(sorted(moving - bad.keys())):
        context.log("days.left_to_the_next_check", days=len(left), first=left[0])
    checked = {day: watermark for day, watermark in checked.items() if day not in moving or day in bad}
    failures = {day: _failures(expected.get(day), found.get(day), bad.get(day, 0)) for day in checked}
    failed = {day for day, what in failures.items() if what}
    # One warehouse can spoil a day, but not tell that all of it is good.
    passed = checked.keys() - failed if context.warehouse_id is None else set[int]()
    news = {day: failures[day] for day in passed | (failed & answered_for)}
    async with fence.transaction(context) as connection:
        await dataset_queries.record_quality(connection, LEDGER_ENTRIES.dataset, news, checked, context.run_id)
    entries = {day: figures[0] for day, figures in expected.items() if day in new}
    # Copies are compared by whole days.
    warnings = [] if context.warehouse_id is not None else await _copies(context, entries)
    if still_failed := names_of(sorted(failed - answered_for)):
        context.log("days.still_failed", level="warning", days=len(still_failed), first=still_failed[0])
    if told := names_of(sorted(failed & answered_for)):
        raise QualityFailed(f"{len(told)} days failed: " + ", ".join(told[:10]))
    return StepResult(
        rows_in=sum(entries.values()),
        partitions=names_of(list(checked)),
        figures={"warnings": list[JsonValue](warnings), "stillFailed": list[JsonValue](still_failed)},
        reads=(
            "postgres:inventory.ledger_entries_v1",
            "lake:ledger_entries",
            "lake:inventory-events",
            "mongo:analytics.transactions_v1",
            "mongo:analytics.metric_history_v1",
        ),
        writes={"postgres:pipeline.partition_quality": len(news)},
    )


def due_days(source: Mapping[int, int], result: Mapping[int, int], wanted: Iterable[int]) -> list[int]:
    """The days of the source, day -> watermark, that are wanted in any case or newer than their result."""
    newer = {day for day, watermark in source.items() if result.get(day, -1) < watermark}
    return sorted(newer | source.keys() & set(wanted))


def _with_what_follows(context: Context, own: Sequence[int], known: Collection[int]) -> list[int]:
    """The days of the interval and, of a full run or one of a single warehouse, all known days after its first.

    A run of one warehouse leaves the watermarks as they are, so that nobody else would see that those are behind.
    """
    if own and (context.parameters.get("full") or context.warehouse_id is not None):
        return sorted({*own, *(day for day in known if day > own[0])})
    return list(own)


async def _differing_days(context: Context, contract: Contract) -> set[int]:
    """The days of which the lake holds another number of rows than it was given, so that what follows may be wrong."""
    async with acquired(context.pool) as connection:
        recorded = await dataset_queries.recorded_rows(connection, contract.dataset)
    found = await asyncio.to_thread(lake_table(context.settings, contract).rows_per_day)
    damaged = {day for day, rows in recorded.items() if found[day] != rows}
    if damaged:
        context.log("lake.differs", level="warning", dataset=contract.dataset, days=names_of(sorted(damaged)[:10]))
    return damaged


def _check_calculated(days: Iterable[int], known: Collection[int]) -> None:
    """Raise NotCalculatedYet where nobody has calculated a day, which would then hold one warehouse only."""
    if missing := sorted(set(days) - set(known)):
        raise NotCalculatedYet(f"run all warehouses first: nothing is known of {', '.join(names_of(missing)[:10])}")


async def renew_dimensions(context: Context) -> None:
    """See the changes of products, categories and warehouses that nobody has seen yet."""
    async with fence.transaction(context) as connection:
        await dimension_queries.refresh(connection)


def source_url(settings: Settings) -> str:
    """Where batch jobs read from."""
    return (settings.batch_database_url or settings.database_url).get_secret_value()


def lake_table(settings: Settings, contract: Contract) -> PartitionedTable:
    """The table of the lake that holds a dataset."""
    return PartitionedTable(settings.lake_url, contract.dataset, contract.schema)


def engine_of(settings: Settings) -> AbstractContextManager[Engine]:
    """The engine that the settings ask for."""
    return open_engine(
        settings.batch_engine,
        memory_limit=settings.batch_memory_limit,
        spill_folder=settings.batch_spill_folder,
        spill_limit=settings.batch_spill_limit,
    )


def days_of(dates: Iterable[date]) -> list[int]:
    """Dates as whole days since 1970."""
    return [each.toordinal() - FIRST_OF_1970 for each in dates]


def names_of(days: Sequence[int]) -> tuple[str, ...]:
    """Whole days since 1970 as ISO dates."""
    return tuple(str(nearest_date(day)) for day in days)


async def _announce(context: Context, day: int, *, has_changed: bool) -> int:
    """Publish the metrics of a day if they have changed, or were not announced whole as they are; how many."""
    async with acquired(context.pool) as connection:
        calculated = await dataset_queries.partition(connection, DAILY_METRIC.dataset, day)
        announced = await dataset_queries.partition(connection, _ANNOUNCED, day)
    if calculated is None or (announced == calculated and not has_changed):
        return 0
    published = await _publish(context, day)
    if context.warehouse_id is None:
        async with fence.transaction(context) as connection:
            await dataset_queries.record_partitions(
                connection, _ANNOUNCED, {day: published}, calculated.watermark, context.run_id
            )
    return published


async def _publish(context: Context, day: int) -> int:
    """Publish the metrics of a day, some stock items at a time; how many. A repeat publishes them again."""
    now = datetime.now(UTC)
    after, published = ("", ""), 0
    while True:
        async with fence.transaction(context) as connection:
            metrics = await dataset_queries.metrics_page(
                connection, nearest_date(day), context.warehouse_id, after, EVENTS_PER_TRANSACTION
            )
            if not metrics:
                return published
            revision = await metric_queries.next_revision(connection)
            await outbox.enqueue(
                connection, [metric_events.metrics_calculated(metric, revision, now) for metric in metrics]
            )
        after = metrics[-1]["sku"], metrics[-1]["warehouse_id"]
        published += len(metrics)


def kept(rows: pa.RecordBatchReader, contract: Contract) -> pa.RecordBatchReader:
    """The same rows, checked against their contract as they pass."""
    return pa.RecordBatchReader.from_batches(contract.schema, (contract.checked(batch) for batch in rows))


def _newest_until(ledger: dict[int, int], wanted: set[int]) -> dict[int, int]:
    """Wanted day -> the newest watermark of all days up to and with it; without days before the first of the ledger."""
    days = sorted(ledger)
    newest = dict(zip(days, accumulate((ledger[day] for day in days), max), strict=True))
    result = {}
    latest: int | None = None
    for day in sorted({*days, *wanted}):
        latest = newest.get(day, latest)
        if day in wanted and latest is not None:
            result[day] = latest
    return result


def _read(
    context: Context, engine: Engine, contract: Contract, first: int | None = None, last: int | None = None
) -> ir.Table:
    """The rows of a dataset of the days from first to last; of one warehouse if the run is about one."""
    files = lake_table(context.settings, contract).files(first, last, context.warehouse_id)
    rows = engine.read(files, contract.schema)
    return rows if context.warehouse_id is None else rows.filter(rows.warehouse_id == context.warehouse_id)


def _sum_days(context: Context, days: Sequence[int], watermark: int) -> dict[int, int]:
    """Sum changed days into the lake; rows per day."""
    if not days:
        return {}
    with engine_of(context.settings) as engine:
        entries = _read(context, engine, LEDGER_ENTRIES, days[0], days[-1])
        entries = entries.semi_join(engine.days(days), "day")
        rows = kept(engine.rows(transformation.item_days(entries), ITEM_DAYS.schema), ITEM_DAYS)
        replaced = lake_table(context.settings, ITEM_DAYS).replace(
            days, Fence.of(context).rows(rows), watermark, context.warehouse_id
        )
    return {day: replaced[nearest_date(day)] for day in days}


def _take_snapshots(context: Context, days: Sequence[int], watermark: int) -> int:
    if not days:
        return 0
    settings = context.settings
    dimensions = extraction.read_dimensions(settings.database_url.get_secret_value())
    with engine_of(settings) as engine:
        moved = _read(context, engine, ITEM_DAYS, last=days[-1])
        stock = transformation.enriched(
            transformation.snapshots(moved, engine.days(days)),
            engine.table(dimensions.products),
            engine.table(dimensions.categories),
            engine.table(dimensions.warehouses),
        )
        rows = engine.rows(stock, DAILY_SNAPSHOT.schema)
        return _load(context, DAILY_SNAPSHOT, sink.DAILY_SNAPSHOT, days, rows, watermark)


def _calculate_metrics(context: Context, days: Sequence[int], watermark: int) -> int:
    if not days:
        return 0
    settings = context.settings
    products = extraction.read_dimensions(settings.database_url.get_secret_value()).products
    with engine_of(settings) as engine:
        moved = _read(context, engine, ITEM_DAYS, days[0] - LONGEST_WINDOW_DAYS + 1, days[-1])
        stock = _read(context, engine, DAILY_SNAPSHOT, days[0], days[-1])
        stock = stock.semi_join(engine.days(days), "day")
        risk_column = DAILY_METRIC.schema.get_field_index("stockout_risk")
        schema = DAILY_METRIC.schema.remove(risk_column).append(pa.field("quantity_on_hand", pa.int64()))
        figures = transformation.metrics(moved, stock)
        calculated = engine.rows(transformation.classified(figures, engine.table(products)), schema)
        rows = pa.RecordBatchReader.from_batches(
            DAILY_METRIC.schema, (_with_risk(batch, settings) for batch in calculated)
        )
        return _load(context, DAILY_METRIC, sink.DAILY_METRIC, days, rows, watermark)


def _load(
    context: Context,
    contract: Contract,
    target: Target,
    days: Sequence[int],
    rows: pa.RecordBatchReader,
    watermark: int,
) -> int:
    """Replace the days in the lake, then in Postgres by what the lake holds, some days at a time; rows put in."""
    table, own = lake_table(context.settings, contract), Fence.of(context)
    replaced = table.replace(days, own.rows(kept(rows, contract)), watermark, context.warehouse_id)
    failpoint(f"batch.{contract.dataset}.in_lake")
    url = context.settings.database_url.get_secret_value()
    total, done = sum(replaced.values()), 0
    for chunk in extraction.chunks({day: replaced[nearest_date(day)] for day in days}):
        context.progress(done, total)
        stored = table.rows(chunk, contract.schema, context.warehouse_id)
        done += sink.replace_dates(url, target, chunk, stored, watermark, own, context.warehouse_id)
    context.progress(done, total)
    return done


def _with_risk(batch: pa.RecordBatch, settings: Settings) -> pa.RecordBatch:
    """Metrics with the probability that demand takes more than what is on hand before a delivery could arrive."""
    days = settings.stockout_lead_time_days + settings.stockout_review_days
    on_hand, velocity, sd_daily = (
        batch[name].cast(pa.float64()).to_numpy() for name in ("quantity_on_hand", "velocity_30", "sd_daily_30")
    )
    risks = stockout_risks(on_hand, velocity, sd_daily, days)
    columns = {**{name: batch[name] for name in batch.schema.names}, "stockout_risk": pa.array(risks, pa.float64())}
    return pa.record_batch([columns[name] for name in DAILY_METRIC.schema.names], schema=DAILY_METRIC.schema)


def _fingerprints(
    context: Context, watermarks: Mapping[int, int]
) -> tuple[dict[int, Fingerprint], dict[int, Fingerprint], set[int]]:
    """Those of the ledger and of the lake, per day, at the watermark that the lake has extracted the day to.

    That is the given one, or that of the latest commit: an extraction may have died before it told of it, or was about
    one warehouse. Then the days that have got entries between the two, and are like neither: they may hold one
    warehouse as of the former and another as of the latter, or of one between.
    """
    url = source_url(context.settings)
    with extraction.without_extractions(url):
        found = _fingerprints_of_lake(context, list(watermarks))
        latest = lake_table(context.settings, LEDGER_ENTRIES).watermark()
    expected = extraction.fingerprints(url, watermarks, context.warehouse_id)
    if latest is None:
        return expected, found, set()
    differing = {day: latest for day in watermarks if expected.get(day) != found.get(day)}
    at_latest = extraction.fingerprints(url, differing, context.warehouse_id)
    moving = {day for day in differing if at_latest.get(day) not in (expected.get(day), found.get(day))}
    expected |= {day: figures for day, figures in at_latest.items() if figures == found.get(day)}
    return expected, found, moving


def _fingerprints_of_lake(context: Context, days: Sequence[int]) -> dict[int, Fingerprint]:
    """As `extraction.fingerprints`, of what the lake holds."""
    schema = pa.schema(
        [pa.field("day", pa.int32()), *(pa.field(name, pa.int64()) for name in ("entries", "change", "after"))]
    )
    with engine_of(context.settings) as engine:
        entries = _read(context, engine, LEDGER_ENTRIES, min(days), max(days))
        entries = entries.semi_join(engine.days(days), "day")
        sums = entries.group_by("day").aggregate(
            entries=entries.count(), change=entries.quantity_change.sum(), after=entries.quantity_after.sum()
        )
        rows = engine.rows(sums, schema).read_all().to_pylist()
    return {row["day"]: (row["entries"], row["change"], row["after"]) for row in rows}


def _failures(expected: Fingerprint | None, found: Fingerprint | None, quarantined: int) -> list[dict[str, JsonValue]]:
    """The blocking checks that a day fails: rows in quarantine, or other rows in the lake than in the ledger."""
    failures: list[dict[str, JsonValue]] = []
    if quarantined:
        failures.append({"check": "rows-quarantined", "rows": quarantined})
    elif expected != found:
        failures.append({"check": "extract-differs", "expected": list(expected or ()), "found": list(found or ())})
    return failures


async def _copies(context: Context, entries: dict[int, int]) -> list[copies.Difference]:
    """Where the copies that other consumers keep differ; demand is compared as of the latest day."""
    if not entries:
        return []
    day = max(entries)
    demand = await asyncio.to_thread(_demand_of_moved_items, context, day)
    return await copies.differences(context, entries, day, demand)


def _demand_of_moved_items(context: Context, day: int) -> pa.Table:
    """Demand of the 30 days up to a day, of the stock items that moved on it."""
    schema = pa.schema([ITEM_DAYS.schema.field("sku"), ITEM_DAYS.schema.field("warehouse_id")])
    schema = schema.append(pa.field("demand_30", pa.int64()))
    with engine_of(context.settings) as engine:
        entries = _read(context, engine, LEDGER_ENTRIES, day - TREND_DAYS + 1, day)
        return engine.rows(transformation.demand_of_moved_items(entries, day), schema).read_all()
