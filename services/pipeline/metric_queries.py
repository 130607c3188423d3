"""Metrics of many stock items at once, in SQL. What they mean is defined in `velocity.py` and `trend.py`."""

from collections.abc import Collection, Sequence
from datetime import date

import asyncpg

from libs.chassis.database import Connection
from services.pipeline.loads import StockItem
from services.pipeline.trend import CRITICAL_T


async def as_of(connection: Connection, today: date | None) -> date | None:
    """The day up to which windows reach: `today`, or by default the clock's, None before the first ledger event."""
    if today is not None:
        return today
    day: date | None = await connection.fetchval("SELECT as_of FROM clock")
    return day


async def calculated_as_of(connection: Connection) -> date | None:
    """The last day for which every active stock item was calculated or marked; None before the first."""
    day: date | None = await connection.fetchval("SELECT as_of FROM metric_clock")
    return day


async def advance_day(connection: Connection, day: date) -> int:
    """Mark every stock item whose windows move because the day advances to `day`; how many were marked.

    Those are the items that moved within 90 days of the day before the advance.
    """
    await connection.execute("INSERT INTO metric_clock (as_of) VALUES ($1) ON CONFLICT DO NOTHING", day)
    before = await connection.fetchval("SELECT as_of FROM metric_clock FOR UPDATE")
    if before >= day:
        return 0
    await connection.execute("UPDATE metric_clock SET as_of = $1", day)
    marked = await connection.execute(
        """
        INSERT INTO dirty_stock_item (sku, warehouse_id)
        SELECT sku, warehouse_id FROM stock_position WHERE last_movement_date > $1::date - 90
        """,
        before,
    )
    return int(marked.split()[-1])


async def has_dirty(connection: Connection) -> bool:
    """Whether any stock item waits to be calculated."""
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM dirty_stock_item)"))


async def count_dirty(connection: Connection) -> int:
    """How many stock items wait to be calculated."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM (SELECT DISTINCT sku, warehouse_id FROM dirty_stock_item) AS dirty"
    )
    return count


async def count_active(connection: Connection, day: date) -> int:
    """How many stock items moved within 90 days of `day`."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM stock_position WHERE last_movement_date > $1::date - 90", day
    )
    return count


async def take_dirty(
    connection: Connection, after: StockItem, most_items: int, most_marks: int
) -> list[asyncpg.Record]:
    """The marks of the next stock items after the given one, taken off the list.

    At most so many marks: the last stock item may keep some, and those behind it keep theirs. Marks that another
    process is taking are skipped. Only committed marks are seen, so what they announce is visible
    to every later statement.
    """
    return await connection.fetch(
        """
        WITH item AS MATERIALIZED (
            SELECT DISTINCT sku, warehouse_id FROM dirty_stock_item
             WHERE (sku, warehouse_id) > ($1, $2) ORDER BY sku, warehouse_id LIMIT $3),
        taken AS MATERIALIZED (
            SELECT mark.sku, mark.warehouse_id, mark.id
              FROM item JOIN dirty_stock_item AS mark USING (sku, warehouse_id)
             ORDER BY mark.sku, mark.warehouse_id, mark.id LIMIT $4
               FOR UPDATE OF mark SKIP LOCKED)
        DELETE FROM dirty_stock_item AS dirty USING taken
         WHERE (dirty.sku, dirty.warehouse_id, dirty.id) = (taken.sku, taken.warehouse_id, taken.id)
        RETURNING dirty.sku, dirty.warehouse_id, dirty.bucket_start, dirty.transaction_type
        """,
        *after,
        most_items,
        most_marks,
    )


async def lock_metrics(connection: Connection, items: Sequence[StockItem]) -> None:
    """Lock the metric rows of sorted stock items, in a statement of its own, so that the latest calculation wins."""
    columns = [sku for sku, _ in items], [warehouse_id for _, warehouse_id in items]
    await connection.execute(
        """
        INSERT INTO stock_metric (sku, warehouse_id, as_of)
        SELECT sku, warehouse_id, '1970-01-01' FROM unnest($1::text[], $2::text[]) AS item(sku, warehouse_id)
        ON CONFLICT DO NOTHING
        """,
        *columns,
    )
    await connection.execute(
        """
        SELECT FROM stock_metric AS metric
          JOIN unnest($1::text[], $2::text[]) AS item(sku, warehouse_id) USING (sku, warehouse_id)
         ORDER BY metric.sku, metric.warehouse_id FOR NO KEY UPDATE OF metric
        """,
        *columns,
    )


async def calculate(connection: Connection, items: Sequence[StockItem], day: date) -> list[asyncpg.Record]:
    """The metrics of stock items as of `day`, stored with new revisions; call `lock_metrics` before."""
    return await connection.fetch(
        _CALCULATE, [sku for sku, _ in items], [warehouse_id for _, warehouse_id in items], day, CRITICAL_T
    )


# age counts days back from $3; in the trend, day = 29 - age. Sums are exact (numeric), only ratios are rounded.
# Demand of more than 64 bits is shown as the most that they hold.
# 67425 = 30 x sum(d^2) - (sum d)^2 and 435 = sum d for d in 0..29.
_CALCULATE = """
    WITH day AS (
        SELECT item.sku, item.warehouse_id, $3::date - fact.date AS age, sum(fact.units_out - fact.units_in) AS demand
          FROM unnest($1::text[], $2::text[]) AS item(sku, warehouse_id)
          JOIN daily_movement AS fact USING (sku, warehouse_id)
         WHERE fact.date BETWEEN $3::date - 89 AND $3::date AND fact.transaction_type IN ('SALE', 'RETURN')
         GROUP BY 1, 2, 3),
    windows AS (
        SELECT item.sku, item.warehouse_id,
               coalesce(sum(demand) FILTER (WHERE age < 7), 0) AS demand_7,
               coalesce(sum(demand) FILTER (WHERE age < 30), 0) AS demand_30,
               coalesce(sum(demand), 0) AS demand_90,
               coalesce(sum(demand * demand) FILTER (WHERE age < 7), 0) AS squares_7,
               coalesce(sum(demand * demand) FILTER (WHERE age < 30), 0) AS squares_30,
               coalesce(sum(demand * demand), 0) AS squares_90,
               coalesce(sum(demand * (29 - age)) FILTER (WHERE age < 30), 0) AS moments_30,
               coalesce(sum(demand) FILTER (WHERE age BETWEEN 30 AND 59), 0) AS demand_30_before
          FROM unnest($1::text[], $2::text[]) AS item(sku, warehouse_id)
          LEFT JOIN day USING (sku, warehouse_id)
         GROUP BY 1, 2),
    regression AS (
        SELECT *, 30 * moments_30 - 435 * demand_30 AS sxy,
               67425 * (30 * squares_30 - demand_30 ^ 2) - (30 * moments_30 - 435 * demand_30) ^ 2 AS residual
          FROM windows),
    slope AS (
        SELECT *, CASE WHEN residual > 0 THEN sxy::float8 * sqrt(28::float8) / sqrt(residual::float8) END AS t_statistic
          FROM regression)
    UPDATE stock_metric AS metric
       SET as_of = $3,
           demand_7 = least(greatest(slope.demand_7, -(2::numeric ^ 63)), 2::numeric ^ 63 - 1),
           demand_30 = least(greatest(slope.demand_30, -(2::numeric ^ 63)), 2::numeric ^ 63 - 1),
           demand_90 = least(greatest(slope.demand_90, -(2::numeric ^ 63)), 2::numeric ^ 63 - 1),
           velocity_7 = slope.demand_7::float8 / 7,
           velocity_30 = slope.demand_30::float8 / 30,
           velocity_90 = slope.demand_90::float8 / 90,
           sd_daily_7 = sqrt((7 * squares_7 - slope.demand_7 ^ 2)::float8 / (7 * 6)),
           sd_daily_30 = sqrt((30 * squares_30 - slope.demand_30 ^ 2)::float8 / (30 * 29)),
           sd_daily_90 = sqrt((90 * squares_90 - slope.demand_90 ^ 2)::float8 / (90 * 89)),
           change_ratio_30d = (slope.demand_30 - demand_30_before)::float8 / nullif(demand_30_before, 0)::float8,
           slope_per_day = sxy::float8 / 67425,
           t_statistic = slope.t_statistic,
           direction = CASE WHEN sxy = 0 OR abs(slope.t_statistic) < $4::float8 THEN 'FLAT'
                            WHEN sxy > 0 THEN 'UP' ELSE 'DOWN' END,
           revision = nextval('metric_revision'), calculated_at = now()
      FROM slope
     WHERE metric.sku = slope.sku AND metric.warehouse_id = slope.warehouse_id
    RETURNING metric.*
"""


async def hourly_facts(
    connection: Connection, buckets: Collection[tuple[str, str, object, str]]
) -> list[asyncpg.Record]:
    """The hourly facts of (sku, warehouse_id, bucket_start, transaction_type) as they now stand."""
    return await connection.fetch(
        """
        SELECT fact.sku, fact.warehouse_id, fact.bucket_start, fact.transaction_type,
               CASE fact.transaction_type WHEN 'OPENING_BALANCE' THEN 0 ELSE entries END AS movements,
               units_in, units_out, revision, last_event_at
          FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[])
               AS bucket(sku, warehouse_id, bucket_start, transaction_type)
          JOIN hourly_movement AS fact USING (sku, warehouse_id, bucket_start, transaction_type)
         ORDER BY fact.sku, fact.warehouse_id, fact.bucket_start, fact.transaction_type
        """,
        *([bucket[column] for bucket in buckets] for column in range(4)),
    )


async def levels(connection: Connection, items: Sequence[StockItem]) -> list[asyncpg.Record]:
    """What the stream knows of the stock of these items."""
    return await connection.fetch(
        f"""
        SELECT {_LEVEL_COLUMNS}
          FROM unnest($1::text[], $2::text[]) AS item(sku, warehouse_id)
          JOIN stock_position AS position USING (sku, warehouse_id)
        """,
        [sku for sku, _ in items],
        [warehouse_id for _, warehouse_id in items],
    )


async def levels_page(connection: Connection, after: StockItem, limit: int) -> list[asyncpg.Record]:
    """The next stock items after the given one, by sku and warehouse."""
    return await connection.fetch(
        f"""
        SELECT {_LEVEL_COLUMNS} FROM stock_position AS position
         WHERE (sku, warehouse_id) > ($1, $2) ORDER BY sku, warehouse_id LIMIT $3
        """,
        *after,
        limit,
    )


_LEVEL_COLUMNS = """
    position.sku, position.warehouse_id, position.revision, quantity_on_hand, quantity_reserved, reorder_point,
    reorder_quantity
"""


async def metrics(connection: Connection, items: Sequence[StockItem]) -> list[asyncpg.Record]:
    """The metrics of these items."""
    return await connection.fetch(
        """
        SELECT metric.* FROM unnest($1::text[], $2::text[]) AS item(sku, warehouse_id)
          JOIN stock_metric AS metric USING (sku, warehouse_id)
        """,
        [sku for sku, _ in items],
        [warehouse_id for _, warehouse_id in items],
    )


async def metrics_page(connection: Connection, after: StockItem, limit: int) -> list[asyncpg.Record]:
    """The metrics of the next stock items after the given one, by sku and warehouse."""
    return await connection.fetch(
        "SELECT * FROM stock_metric WHERE (sku, warehouse_id) > ($1, $2) ORDER BY sku, warehouse_id LIMIT $3",
        *after,
        limit,
    )


async def top_movers(connection: Connection, limit: int) -> list[asyncpg.Record]:
    """The skus of most net demand for each window, over all warehouses; ties by sku in byte order."""
    return await connection.fetch(
        """
        SELECT days, sku, units
          FROM (SELECT days, sku, sum(demand) AS units,
                       row_number() OVER (PARTITION BY days ORDER BY sum(demand) DESC, sku) AS place
                  FROM stock_metric
                 CROSS JOIN LATERAL (VALUES (7, demand_7), (30, demand_30), (90, demand_90)) AS windows(days, demand)
                 GROUP BY days, sku) AS ranking
         WHERE place <= $1 AND units > 0
         ORDER BY days, place
        """,
        limit,
    )


async def next_revision(connection: Connection) -> int:
    """A revision larger than every one before."""
    revision: int = await connection.fetchval("SELECT nextval('metric_revision')")
    return revision
