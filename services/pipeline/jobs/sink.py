"""Puts the rows of whole dates into Postgres: readers see all of a date's old rows, or all of its new ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
from adbc_driver_postgresql import dbapi

from libs.events.failpoints import failpoint
from services.pipeline.jobs.fence import Fence
from services.pipeline.lake import nearest_date, quoted

_DATE: Final = "DATE '1970-01-01' + day"
_STOCK_ITEM: Final = {"date": _DATE, "sku": "sku", "warehouse_id": "warehouse_id"}


@dataclass(frozen=True, slots=True)
class Target:
    """A table of the schema `pipeline` that is replaced by date."""

    table: str
    columns: Mapping[str, str]
    """Column -> SQL expression over an incoming row."""


def _same(*columns: str) -> dict[str, str]:
    return {column: column for column in columns}


DAILY_SNAPSHOT: Final = Target(
    "daily_snapshot",
    {
        **_STOCK_ITEM,
        **_same("quantity_on_hand", "units_in", "units_out"),
        **_same("product_name", "category_id", "category_name", "warehouse_name"),
        "stock_value": "stock_value_micros / 1000000",
    },
)
DAILY_METRIC: Final = Target(
    "daily_metric",
    {
        **_STOCK_ITEM,
        **_same(*(f"{figure}_{days}" for figure in ("demand", "velocity", "sd_daily") for days in (7, 30, 90))),
        **_same("change_ratio_30d", "slope_per_day", "t_statistic", "direction"),
        **_same("turnover_30", "turnover_90", "days_of_supply", "stockout_risk", "abc_class", "xyz_class"),
    },
)
MOVEMENT_AGGREGATE: Final = Target(
    "movement_aggregate",
    {
        "date": _DATE,
        "bucket_start": "to_timestamp(bucket_hour * 3600::float8)",
        **_same("grain", "dimension", "key", "movements", "units_in", "units_out", "demand"),
        "value": "value_micros / 1000000",
    },
)


def replace_dates(
    url: str,
    target: Target,
    days: Sequence[int],
    rows: pa.RecordBatchReader,
    watermark: int,
    fence: Fence,
    warehouse_id: str | None = None,
) -> int:
    """Replace the dates of `days` by the incoming rows, in one transaction; how many rows were put in. Blocks.

    Dates that hold the result of a later watermark stay as they are: a run that was overtaken changes nothing. With a
    warehouse, only its rows are replaced, and the dates keep their watermark. Raises Fenced when the attempt does not
    count any more, and changes nothing.
    """
    is_own = "" if warehouse_id is None else f" AND warehouse_id = {quoted(warehouse_id)}"
    kept_or_new = "watermark" if warehouse_id is not None else f"{watermark:d}"
    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        dates = _lock_dates(cursor, target.table, days, watermark, fence.run_id)
        cursor.adbc_ingest("incoming", rows, mode="create", temporary=True)
        failpoint(f"batch.{target.table}.copied")
        cursor.execute(f"DELETE FROM pipeline.{target.table} WHERE date = ANY('{dates}'::date[]){is_own}")
        names, values = ", ".join(target.columns), ", ".join(target.columns.values())
        cursor.execute(
            f"""
            INSERT INTO pipeline.{target.table} ({names})
            SELECT {values} FROM pg_temp.incoming WHERE {_DATE} = ANY('{dates}'::date[])
            """
        )
        failpoint(f"batch.{target.table}.inserted")
        cursor.execute(
            f"""
            UPDATE pipeline.dataset_partition AS partition
               SET watermark = {kept_or_new}, run_id = '{fence.run_id}', replaced_at = now(),
                   rows = (SELECT count(*) FROM pipeline.{target.table} AS replaced
                            WHERE replaced.date = partition.date)
             WHERE dataset = '{target.table}' AND date = ANY('{dates}'::date[])
            """
        )
        cursor.execute(f"SELECT count(*) FROM pg_temp.incoming WHERE {_DATE} = ANY('{dates}'::date[])")
        inserted: int = cursor.fetchone()[0]
        fence.hold(cursor)
        connection.commit()
    failpoint(f"batch.{target.table}.committed")
    return inserted


def _lock_dates(cursor: Any, dataset: str, days: Sequence[int], watermark: int, run_id: UUID) -> str:
    """The dates that this watermark may replace, as an array; nobody else replaces them meanwhile."""
    wanted = "{" + ",".join(str(nearest_date(day)) for day in sorted(days)) + "}"
    cursor.execute(
        f"""
        INSERT INTO pipeline.dataset_partition (dataset, date, watermark, rows, run_id)
        SELECT '{dataset}', date, 0, 0, '{run_id}'
          FROM unnest('{wanted}'::date[]) AS wanted(date)
        ON CONFLICT DO NOTHING
        """
    )
    cursor.execute(
        f"""
        SELECT date FROM pipeline.dataset_partition
         WHERE dataset = '{dataset}' AND date = ANY('{wanted}'::date[]) AND watermark <= {watermark:d}
         ORDER BY date FOR UPDATE
        """
    )
    return "{" + ",".join(str(date) for (date,) in cursor.fetchall()) + "}"
