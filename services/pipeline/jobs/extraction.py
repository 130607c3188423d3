"""What the batch jobs read from Postgres: published views only, in one snapshot, as Arrow. Every function blocks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from adbc_driver_postgresql import dbapi

from services.pipeline.jobs import blocking_rules
from services.pipeline.jobs.blocking_rules import BadRow
from services.pipeline.jobs.contract import LEDGER_ENTRIES
from services.pipeline.jobs.fence import Fence
from services.pipeline.lake import PartitionedTable, groups, nearest_date, quoted

ROWS_PER_COMMIT = 1_000_000
MOST_BAD_ROWS = 10_000

_DAY = "(entry.occurred_at AT TIME ZONE 'UTC')::date - DATE '1970-01-01'"
_COLUMNS = f"""
    entry.sku, entry.warehouse_id, entry.sequence, entry.transaction_id::text AS transaction_id,
    entry.transaction_type, entry.line_no, entry.quantity_change, entry.quantity_after,
    (entry.unit_cost * 1000000)::int8 AS unit_cost_micros, (entry.unit_price * 1000000)::int8 AS unit_price_micros,
    entry.reference_id, entry.occurred_at, entry.recorded_at,
    floor(extract(epoch FROM entry.occurred_at) / 3600)::int4 AS hour, ({_DAY})::int4 AS day
"""


_VALIDITY = """
    CASE valid_from WHEN '-infinity' THEN -9223372036854775808
                    ELSE (extract(epoch FROM valid_from) * 1000000)::int8 END AS valid_from,
    CASE valid_to WHEN 'infinity' THEN 9223372036854775807
                  ELSE (extract(epoch FROM valid_to) * 1000000)::int8 END AS valid_to
"""


Fingerprint = tuple[int, int, int]
"""Entries, sum of their changes, sum of their balances."""


class TooManyBadRows(Exception):
    """So many rows break a rule that it is the rule, or all of the source, that is bad."""


@dataclass(frozen=True, slots=True)
class Extract:
    """What was read of the ledger, and put into the lake."""

    watermark_from: int
    watermark_to: int
    """The extract holds what transactions with smaller ids wrote, all of which had ended."""
    rows_per_day: dict[int, int]
    """Good rows of every day that was replaced, of all warehouses."""
    changed_days: frozenset[int]
    """Those of them that have entries from `watermark_from` on; the others hold what they held before."""
    rows_read: int
    """Good and bad rows."""
    bad_rows: list[BadRow] = field(default_factory=list)


def extract_ledger(
    url: str,
    lake_table: PartitionedTable,
    watermark_from: int,
    own_days: Sequence[int],
    fence: Fence,
    progress: Callable[[int, int], None],
) -> Extract:
    """Replace `own_days` of the lake's ledger, and every day that has entries of transactions from `watermark_from` on.

    One extraction at a time; others wait.
    """
    with _snapshot(url, alone=True) as cursor:
        watermark_to = _watermark(cursor)
        changed = _changed_days(cursor, watermark_from, watermark_to)
        days = sorted({*own_days, *changed})
        counts = dict.fromkeys(days, 0) | _count_entries(cursor, days, watermark_to, None)
        rows_per_day, bad_rows = _replace_days(cursor, lake_table, counts, watermark_to, None, fence, progress)
    return Extract(watermark_from, watermark_to, rows_per_day, changed, sum(counts.values()), bad_rows)


def extract_warehouse(
    url: str,
    lake_table: PartitionedTable,
    warehouse_id: str,
    days: Sequence[int],
    fence: Fence,
    progress: Callable[[int, int], None],
) -> Extract:
    """Replace one warehouse's part of these days of the lake's ledger. One extraction at a time; others wait."""
    with _snapshot(url, alone=True) as cursor:
        watermark_to = _watermark(cursor)
        counts = dict.fromkeys(days, 0) | _count_entries(cursor, days, watermark_to, warehouse_id)
        rows_per_day, bad_rows = _replace_days(cursor, lake_table, counts, watermark_to, warehouse_id, fence, progress)
    return Extract(0, watermark_to, rows_per_day, frozenset(days), sum(counts.values()), bad_rows)


@contextmanager
def without_extractions(url: str) -> Iterator[None]:
    """Meanwhile nobody replaces days of the lake's ledger: extractions wait."""
    with _snapshot(url, alone=True):
        yield


def fingerprints(url: str, watermarks: Mapping[int, int], warehouse_id: str | None = None) -> dict[int, Fingerprint]:
    """Per day that has any, of what transactions before its watermark wrote."""
    days, until = (",".join(f"{each:d}" for each in column) for column in (watermarks, watermarks.values()))
    is_own = "" if warehouse_id is None else f"AND entry.warehouse_id = {quoted(warehouse_id)}"
    with _snapshot(url) as cursor:
        cursor.execute(
            f"""
            SELECT day, entries, change, after
              FROM unnest('{{{days}}}'::int4[], '{{{until}}}'::xid8[]) AS wanted(day, watermark)
                   CROSS JOIN LATERAL (
                       SELECT count(*) AS entries, sum(quantity_change)::int8 AS change,
                              sum(quantity_after)::int8 AS after
                         FROM inventory.ledger_entries_v1 AS entry
                        WHERE occurred_at >= TIMESTAMPTZ '1970-01-01 00:00Z' + make_interval(hours => 24 * day)
                          AND occurred_at < TIMESTAMPTZ '1970-01-01 00:00Z' + make_interval(hours => 24 * (day + 1))
                          AND entry.xid < wanted.watermark {is_own}) AS entry
             WHERE entries > 0
            """
        )
        return {day: (entries, change, after) for day, entries, change, after in cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Products, categories and warehouses in all their versions.

    Each holds in [valid_from, valid_to), microseconds since 1970 in UTC.
    """

    products: pa.Table
    categories: pa.Table
    warehouses: pa.Table


def read_dimensions(url: str) -> Dimensions:
    """What snapshots and sums are enriched with."""
    with _snapshot(url) as cursor:
        return Dimensions(
            products=_table(
                cursor,
                f"SELECT sku, {_VALIDITY}, name AS product_name, category_id,"
                " (unit_cost * 1000000)::int8 AS unit_cost_micros FROM pipeline.product_versions_v1",
            ),
            categories=_table(
                cursor,
                f"SELECT category_id, {_VALIDITY}, name AS category_name FROM pipeline.category_versions_v1",
            ),
            warehouses=_table(
                cursor,
                f"SELECT warehouse_id, {_VALIDITY}, name AS warehouse_name FROM pipeline.warehouse_versions_v1",
            ),
        )


def chunks(rows_per_day: Mapping[int, int]) -> list[list[int]]:
    """The days in order, so many together that they hold at most ROWS_PER_COMMIT rows, unless one day alone does."""
    return groups(rows_per_day, ROWS_PER_COMMIT)


@contextmanager
def _snapshot(url: str, *, alone: bool = False) -> Iterator[Any]:
    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        if alone:
            # Before the snapshot is taken, so that who waited sees what the one before has seen, and more.
            cursor.execute("SELECT pg_advisory_lock(hashtext('pipeline extraction')) IS NULL")
            cursor.fetchall()
        cursor.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield cursor
        cursor.execute("COMMIT")


def _changed_days(cursor: Any, watermark_from: int, watermark_to: int) -> frozenset[int]:
    """The days with entries of transactions in [watermark_from, watermark_to)."""
    cursor.execute(
        f"""
        SELECT DISTINCT ({_DAY})::int4 FROM inventory.ledger_entries_v1 AS entry
         WHERE entry.xid >= '{watermark_from:d}'::xid8 AND entry.xid < '{watermark_to:d}'::xid8
        """
    )
    return frozenset(day for (day,) in cursor.fetchall())


def _count_entries(cursor: Any, days: Sequence[int], watermark: int, warehouse_id: str | None) -> dict[int, int]:
    """Day -> its entries, or those of one warehouse, for the days that have any."""
    if not days:
        return {}
    cursor.execute(
        f"""
        SELECT ({_DAY})::int4 AS day, count(*) FROM inventory.ledger_entries_v1 AS entry
         WHERE {_in_days(days, watermark, warehouse_id)} GROUP BY 1
        """
    )
    return dict(cursor.fetchall())


def _replace_days(
    cursor: Any,
    lake_table: PartitionedTable,
    counts: dict[int, int],
    watermark: int,
    warehouse_id: str | None,
    fence: Fence,
    progress: Callable[[int, int], None],
) -> tuple[dict[int, int], list[BadRow]]:
    """Put the good entries of these days (day -> how many to read) into the lake; rows per day, and the bad ones."""
    rows_per_day, bad_rows, done = dict[int, int](), list[BadRow](), 0
    for days in chunks(counts):
        progress(done, sum(counts.values()))
        checked = _checked(_entries(cursor, days, watermark, warehouse_id), bad_rows)
        reader = pa.RecordBatchReader.from_batches(LEDGER_ENTRIES.schema, checked)
        replaced = lake_table.replace(days, fence.rows(reader), watermark, warehouse_id)
        rows_per_day |= {day: replaced[nearest_date(day)] for day in days}
        done += sum(counts[day] for day in days)
    progress(done, done)
    return rows_per_day, bad_rows


def _entries(cursor: Any, days: Sequence[int], watermark: int, warehouse_id: str | None) -> Iterator[pa.RecordBatch]:
    condition = _in_days(days, watermark, warehouse_id)
    cursor.execute(f"SELECT {_COLUMNS} FROM inventory.ledger_entries_v1 AS entry WHERE {condition}")
    for batch in cursor.fetch_record_batch():
        yield batch.cast(LEDGER_ENTRIES.schema)


def _checked(batches: Iterator[pa.RecordBatch], bad_rows: list[BadRow]) -> Iterator[pa.RecordBatch]:
    """The good rows; the others are added to `bad_rows`."""
    for batch in batches:
        good, bad = blocking_rules.split(batch)
        bad_rows += bad
        if len(bad_rows) > MOST_BAD_ROWS:
            raise TooManyBadRows(f"more than {MOST_BAD_ROWS} entries break a rule, such as {bad_rows[0]}")
        yield LEDGER_ENTRIES.checked(good)


def _in_days(days: Sequence[int], watermark: int, warehouse_id: str | None) -> str:
    """A condition on entries; the bounds let Postgres use its index of time."""
    first, last = nearest_date(min(days)), nearest_date(max(days))
    listed = ",".join(f"{day:d}" for day in days)
    is_own = "" if warehouse_id is None else f"AND entry.warehouse_id = {quoted(warehouse_id)}"
    return f"""
        entry.occurred_at >= TIMESTAMPTZ '{first} 00:00Z' AND entry.occurred_at < TIMESTAMPTZ '{last} 00:00Z' + '1 day'
        AND ({_DAY}) = ANY('{{{listed}}}'::int4[]) AND entry.xid < '{watermark:d}'::xid8
        {is_own}
    """


def _watermark(cursor: Any) -> int:
    """Every transaction with a smaller id has ended, and the snapshot holds what it wrote."""
    cursor.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    (watermark,) = cursor.fetchone()
    return int(watermark)


def _table(cursor: Any, query: str) -> pa.Table:
    cursor.execute(query)
    rows: pa.Table = cursor.fetch_arrow_table()
    return rows
