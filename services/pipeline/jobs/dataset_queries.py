"""What is known of the datasets that batch jobs keep: how far they have read, how fresh each date is, what is bad."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import asyncpg
from pydantic import JsonValue

from libs.chassis.database import Connection
from services.pipeline.jobs.blocking_rules import BadRow
from services.pipeline.lake import nearest_date

_EPOCH = "DATE '1970-01-01'"
LONGEST_MARKING = "5min"


@dataclass(frozen=True, slots=True)
class QualityCheck:
    """What the latest quality check of a day found."""

    watermark: int
    """That of the day's ledger when it was checked; 0 if it was held back unchecked."""
    has_failed: bool
    is_of_interval: bool
    """Whether a run of the interval in question found it."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A date of a dataset."""

    watermark: int
    """That of the data that it was calculated from."""
    rows: int


async def watermark(connection: Connection, dataset: str) -> int:
    """Every transaction with a smaller id has been read into the dataset; 0 if none has."""
    return await connection.fetchval("SELECT xid FROM dataset_watermark WHERE dataset = $1", dataset) or 0


async def advance_watermark(connection: Connection, dataset: str, xid: int) -> None:
    """Remember how far a dataset has read; one that has read further stays."""
    await connection.execute(
        """
        INSERT INTO dataset_watermark (dataset, xid) VALUES ($1, $2)
        ON CONFLICT (dataset) DO UPDATE SET xid = excluded.xid, updated_at = now()
         WHERE dataset_watermark.xid < excluded.xid
        """,
        dataset,
        xid,
    )


async def partition(connection: Connection, dataset: str, day: int) -> Partition | None:
    """What is known of the partition of a day; None if it was never calculated."""
    row = await connection.fetchrow(
        "SELECT watermark, rows FROM dataset_partition WHERE dataset = $1 AND date = $2", dataset, nearest_date(day)
    )
    return None if row is None else Partition(**row)


async def watermarks(connection: Connection, dataset: str) -> dict[int, int]:
    """Day -> the watermark of the data that its partition was calculated from."""
    rows = await connection.fetch(
        f"SELECT date - {_EPOCH} AS day, watermark FROM dataset_partition WHERE dataset = $1", dataset
    )
    return {row["day"]: row["watermark"] for row in rows}


async def recorded_rows(connection: Connection, dataset: str) -> dict[int, int]:
    """Day -> how many rows its partition was given."""
    rows = await connection.fetch(
        f"SELECT date - {_EPOCH} AS day, rows FROM dataset_partition WHERE dataset = $1", dataset
    )
    return {row["day"]: row["rows"] for row in rows}


async def good_rows(connection: Connection, dataset: str, days: Iterable[int]) -> dict[int, int]:
    """Day -> the rows of its partition, for those of these days that have one and have not failed their checks."""
    rows = await connection.fetch(
        f"""
        SELECT date - {_EPOCH} AS day, rows FROM dataset_partition AS part
         WHERE dataset = $1 AND date = ANY($2::date[])
           AND NOT EXISTS (SELECT FROM partition_quality AS quality
                            WHERE quality.date = part.date AND quality.status = 'failed')
        """,
        dataset,
        _dates(days),
    )
    return {row["day"]: row["rows"] for row in rows}


async def record_partitions(
    connection: Connection, dataset: str, rows_per_day: Mapping[int, int], xid: int, run_id: UUID
) -> None:
    """Remember that partitions were replaced by what was calculated from data up to a watermark."""
    await connection.execute(
        f"""
        INSERT INTO dataset_partition (dataset, date, watermark, rows, run_id)
        SELECT $1, {_EPOCH} + day, $4, rows, $5 FROM unnest($2::int[], $3::bigint[]) AS replaced(day, rows)
        ON CONFLICT (dataset, date) DO UPDATE
           SET watermark = excluded.watermark, rows = excluded.rows, run_id = excluded.run_id, replaced_at = now()
         WHERE dataset_partition.watermark <= excluded.watermark
        """,
        dataset,
        list(rows_per_day),
        list(rows_per_day.values()),
        xid,
        run_id,
    )


async def record_repeats(connection: Connection, dataset: str, rows_per_day: Mapping[int, int], run_id: UUID) -> None:
    """Remember that partitions, or one warehouse's part of them, were replaced: their watermark stays what it was."""
    await connection.execute(
        f"""
        UPDATE dataset_partition SET rows = replaced.rows, run_id = $4, replaced_at = now()
          FROM unnest($2::int[], $3::bigint[]) AS replaced(day, rows)
         WHERE dataset = $1 AND date = {_EPOCH} + day
        """,
        dataset,
        list(rows_per_day),
        list(rows_per_day.values()),
        run_id,
    )


async def forget(connection: Connection, datasets: Sequence[str], days: Iterable[int]) -> None:
    """Have the partitions of these days calculated again by the next run, as if their source were newer."""
    await connection.execute(
        "UPDATE dataset_partition SET watermark = 0 WHERE dataset = ANY($1) AND date = ANY($2::date[])",
        datasets,
        _dates(days),
    )


async def replace_quarantine(
    connection: Connection,
    dataset: str,
    days: Sequence[int],
    bad_rows: Sequence[BadRow],
    run_id: UUID,
    warehouse_id: str | None = None,
) -> None:
    """Put the bad rows of these days, or of one warehouse's, in place of those that were quarantined before.

    Their days are not published until a quality check has passed.
    """
    await connection.execute(
        """
        DELETE FROM quarantine
         WHERE dataset = $1 AND date = ANY($2::date[]) AND ($3::text IS NULL OR payload->>'warehouse_id' = $3)
        """,
        dataset,
        _dates(days),
        warehouse_id,
    )
    await connection.executemany(
        "INSERT INTO quarantine (dataset, date, row_key, rule_ids, payload, run_id) VALUES ($1, $2, $3, $4, $5, $6)",
        [(dataset, nearest_date(bad.day), bad.key, bad.rule_ids, bad.payload, run_id) for bad in bad_rows],
    )
    await connection.execute(
        """
        INSERT INTO partition_quality (date, status, failures, run_id)
        SELECT date, 'failed', jsonb_build_array(jsonb_build_object('check', 'rows-quarantined', 'rows', count(*))), $3
          FROM quarantine WHERE dataset = $1 AND date = ANY($2::date[]) GROUP BY date ORDER BY date
        ON CONFLICT (date) DO UPDATE SET status = excluded.status, failures = excluded.failures, watermark = 0,
                                         run_id = excluded.run_id, checked_at = now()
        """,
        dataset,
        _dates({bad.day for bad in bad_rows}),
        run_id,
    )


async def quarantined(
    connection: Connection, dataset: str, days: Sequence[int], warehouse_id: str | None = None
) -> dict[int, int]:
    """Day -> how many of its rows, or of one warehouse's, are in quarantine, where there are any."""
    rows = await connection.fetch(
        f"""
        SELECT date - {_EPOCH} AS day, count(*) AS rows FROM quarantine
         WHERE dataset = $1 AND date = ANY($2::date[]) AND ($3::text IS NULL OR payload->>'warehouse_id' = $3)
         GROUP BY date
        """,
        dataset,
        _dates(days),
        warehouse_id,
    )
    return {row["day"]: row["rows"] for row in rows}


async def quality_checks(connection: Connection, start: datetime, end: datetime) -> dict[int, QualityCheck]:
    """Day -> its latest check, seen by a run of the interval [start, end)."""
    rows = await connection.fetch(
        f"""
        SELECT date - {_EPOCH} AS day, watermark, quality.status = 'failed' AS has_failed,
               coalesce((interval_start, interval_end) = ($1::timestamptz, $2::timestamptz), false) AS is_of_interval
          FROM partition_quality AS quality LEFT JOIN run USING (run_id)
        """,
        start,
        end,
    )
    return {row["day"]: QualityCheck(row["watermark"], row["has_failed"], row["is_of_interval"]) for row in rows}


async def record_quality(
    connection: Connection,
    dataset: str,
    failures: Mapping[int, Sequence[Mapping[str, JsonValue]]],
    checked: Mapping[int, int],
    run_id: UUID,
) -> None:
    """Remember which days passed their checks, and what failed on the others: published views leave those out.

    `checked` has their watermarks. What has become newer meanwhile is left to the next check.
    """
    await connection.executemany(
        """
        INSERT INTO partition_quality (date, status, failures, watermark, run_id)
        SELECT date, $3, $4, watermark, $6 FROM dataset_partition WHERE (dataset, date, watermark) = ($1, $2, $5)
        ON CONFLICT (date) DO UPDATE SET status = excluded.status, failures = excluded.failures,
                                         watermark = excluded.watermark, run_id = excluded.run_id, checked_at = now()
        """,
        [
            (
                dataset,
                nearest_date(day),
                "failed" if failed else "passed",
                [dict(failure) for failure in failed],
                checked[day],
                run_id,
            )
            for day, failed in sorted(failures.items())
        ],
    )


async def mark_moved_items(connection: Connection, days: Sequence[int]) -> int:
    """Have the metrics of the stock items that moved on these days calculated and cached again; how many.

    Call it in a transaction: it may take longer than other statements.
    """
    await connection.execute(f"SET LOCAL statement_timeout = '{LONGEST_MARKING}'")
    marked = await connection.execute(
        """
        INSERT INTO dirty_stock_item (sku, warehouse_id)
        SELECT DISTINCT sku, warehouse_id FROM daily_movement WHERE date = ANY($1::date[])
        """,
        _dates(days),
    )
    return int(marked.split()[-1])


async def metrics_page(
    connection: Connection, day: date, warehouse_id: str | None, after: tuple[str, str], limit: int
) -> list[asyncpg.Record]:
    """The published metrics of a date, or of one warehouse on it, for the next stock items after the given one."""
    return await connection.fetch(
        """
        SELECT date, sku, warehouse_id, turnover_30, days_of_supply, stockout_risk, abc_class, xyz_class
          FROM daily_metrics_v1
         WHERE date = $1 AND (sku, warehouse_id) > ($3, $4) AND ($2::text IS NULL OR warehouse_id = $2)
         ORDER BY sku, warehouse_id LIMIT $5
        """,
        day,
        warehouse_id,
        *after,
        limit,
    )


def _dates(days: Iterable[int]) -> list[date]:
    return [nearest_date(day) for day in sorted(days)]
