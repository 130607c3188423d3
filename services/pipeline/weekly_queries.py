"""Figures of weeks, and the reports about them."""

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
from sqlalchemy import Text, cast, select

from libs.chassis.database import Connection, fetch_all
from libs.chassis.paging import PageRequest, keyset
from services.pipeline.tables import report
from services.pipeline.weekly_report import Page
from services.pipeline.weekly_summary import DAYS

KIND: Final = "weekly_summary"
MOST_MOVERS: Final = 10
MOST_STOCKOUTS: Final = 20
MOST_WAREHOUSES: Final = 20

# What lay there at the end of a day = what lies there now - what has moved since. The movements since the Monday are
# read once for all seven days.
_NET_AFTER: Final = ", ".join(
    f"coalesce(sum(units_in - units_out) FILTER (WHERE date > $1::date + {day}), 0) AS net_after_{day}"
    for day in range(DAYS)
)
_EMPTY_DAYS: Final = ", ".join(
    f"CASE WHEN first_sale <= $1::date + {day} AND quantity_on_hand - coalesce(net_after_{day}, 0) <= 0 "
    f"THEN $1::date + {day} END"
    for day in range(DAYS)
)
_REPLACE_WEEK: Final = f"""
    WITH since AS (
        SELECT sku, warehouse_id, {_NET_AFTER} FROM daily_movement WHERE date > $1 GROUP BY sku, warehouse_id),
    sold AS (
        SELECT sku, warehouse_id, min(date) AS first_sale FROM daily_movement
         WHERE date BETWEEN $1::date - 84 AND $1::date + 6 AND transaction_type = 'SALE' GROUP BY sku, warehouse_id),
    moved AS (
        SELECT sku, warehouse_id, sum(entries) FILTER (WHERE transaction_type <> 'OPENING_BALANCE') AS movements,
               sum(units_in) AS units_in, sum(units_out) AS units_out,
               sum(units_out - units_in) FILTER (WHERE transaction_type IN ('SALE', 'RETURN')) AS demand,
               -sum(value) FILTER (WHERE transaction_type IN ('SALE', 'RETURN')) AS sales_value
          FROM daily_movement WHERE date BETWEEN $1::date AND $1::date + 6 GROUP BY sku, warehouse_id),
    item AS (
        SELECT sku, warehouse_id, coalesce(movements, 0) AS movements, coalesce(units_in, 0) AS units_in,
               coalesce(units_out, 0) AS units_out, coalesce(demand, 0) AS demand,
               coalesce(sales_value, 0) AS sales_value, quantity_on_hand - coalesce(net_after_6, 0) AS on_hand,
               array_remove(ARRAY[{_EMPTY_DAYS}], NULL) AS empty_days
          FROM stock_position
          LEFT JOIN since USING (sku, warehouse_id) LEFT JOIN sold USING (sku, warehouse_id)
          LEFT JOIN moved USING (sku, warehouse_id))
    INSERT INTO weekly_stock_item (week, sku, warehouse_id, movements, units_in, units_out, demand, sales_value,
                                   quantity_on_hand, stock_value, empty_days)
    SELECT $1, sku, warehouse_id, movements, units_in, units_out, demand, sales_value, on_hand, on_hand * unit_cost,
           empty_days
      FROM item LEFT JOIN inventory.products_v1 USING (sku)
     WHERE movements > 0 OR units_in > 0 OR units_out > 0 OR on_hand <> 0 OR empty_days <> '{{}}'
"""


async def replace_week(connection: Connection, week: date) -> int:
    """Calculate the stock items of a week anew; how many there are."""
    await connection.execute("DELETE FROM weekly_stock_item WHERE week = $1", week)
    status = await connection.execute(_REPLACE_WEEK, week)
    return int(status.split()[-1])


async def totals(connection: Connection, week: date) -> asyncpg.Record:
    """Sums over the stock items of a week."""
    row = await connection.fetchrow(
        """
        SELECT coalesce(sum(movements), 0)::bigint AS movements, coalesce(sum(units_in), 0)::bigint AS units_in,
               coalesce(sum(units_out), 0)::bigint AS units_out, coalesce(sum(demand), 0)::bigint AS demand,
               coalesce(sum(sales_value), 0) AS sales_value, coalesce(sum(stock_value), 0) AS stock_value,
               count(*) FILTER (WHERE stock_value IS NULL AND quantity_on_hand > 0) AS items_without_cost,
               count(*) FILTER (WHERE empty_days <> '{}') AS stockout_items,
               coalesce(sum(cardinality(empty_days)), 0) AS stockout_days
          FROM weekly_stock_item WHERE week = $1
        """,
        week,
    )
    assert row is not None
    return row


async def days(connection: Connection, week: date) -> list[asyncpg.Record]:
    """Demand and empty stock items of each day, beside the day a week before."""
    return await connection.fetch(
        """
        WITH sold AS (
            SELECT date, sum(units_out - units_in) AS units FROM daily_movement
             WHERE date BETWEEN $1::date - 7 AND $1::date + 6 AND transaction_type IN ('SALE', 'RETURN') GROUP BY date),
        empty AS (
            SELECT date, count(*) AS items FROM weekly_stock_item CROSS JOIN unnest(empty_days) AS date
             WHERE week IN ($1::date, $1::date - 7) GROUP BY date)
        SELECT day.date::date, coalesce(sold.units, 0)::bigint AS demand,
               coalesce(sold_before.units, 0)::bigint AS demand_before, coalesce(empty.items, 0) AS stockouts,
               coalesce(empty_before.items, 0) AS stockouts_before
          FROM generate_series($1::date, $1::date + 6, interval '1 day') AS day(date)
          LEFT JOIN sold ON sold.date = day.date::date
          LEFT JOIN sold AS sold_before ON sold_before.date = day.date::date - 7
          LEFT JOIN empty ON empty.date = day.date::date
          LEFT JOIN empty AS empty_before ON empty_before.date = day.date::date - 7
         ORDER BY day.date
        """,
        week,
    )


async def top_movers(connection: Connection, week: date) -> list[asyncpg.Record]:
    """The skus of most demand over all warehouses; ties by sku in byte order."""
    return await connection.fetch(
        """
        SELECT sku, product.name, coalesce(sum(demand) FILTER (WHERE week = $1), 0)::bigint AS demand,
               coalesce(sum(demand) FILTER (WHERE week < $1), 0)::bigint AS demand_before
          FROM weekly_stock_item LEFT JOIN inventory.products_v1 AS product USING (sku)
         WHERE week IN ($1::date, $1::date - 7)
         GROUP BY sku, product.name HAVING sum(demand) FILTER (WHERE week = $1) > 0
         ORDER BY demand DESC, sku LIMIT $2
        """,
        week,
        MOST_MOVERS,
    )


async def stockouts(connection: Connection, week: date) -> list[asyncpg.Record]:
    """The stock items that were empty on most days; ties by what they sold all the same."""
    return await connection.fetch(
        """
        SELECT sku, product.name, warehouse_id, cardinality(empty_days) AS days, demand::bigint
          FROM weekly_stock_item LEFT JOIN inventory.products_v1 AS product USING (sku)
         WHERE week = $1 AND empty_days <> '{}'
         ORDER BY days DESC, demand DESC, sku, warehouse_id LIMIT $2
        """,
        week,
        MOST_STOCKOUTS,
    )


async def warehouses(connection: Connection, week: date) -> list[asyncpg.Record]:
    """The warehouses of most stock value."""
    return await connection.fetch(
        """
        SELECT warehouse_id, coalesce(sum(demand) FILTER (WHERE week = $1), 0)::bigint AS demand,
               coalesce(sum(demand) FILTER (WHERE week < $1), 0)::bigint AS demand_before,
               coalesce(sum(stock_value) FILTER (WHERE week = $1), 0) AS stock_value,
               coalesce(sum(stock_value) FILTER (WHERE week < $1), 0) AS stock_value_before,
               coalesce(sum(cardinality(empty_days)) FILTER (WHERE week = $1), 0) AS stockout_days
          FROM weekly_stock_item WHERE week IN ($1::date, $1::date - 7)
         GROUP BY warehouse_id ORDER BY stock_value DESC, demand DESC, warehouse_id LIMIT $2
        """,
        week,
        MOST_WAREHOUSES,
    )


async def alerts(connection: Connection, week: date) -> asyncpg.Record:
    """How many low stock alerts were opened and resolved in a week, and how many are live now."""
    row = await connection.fetchrow(
        """
        SELECT count(*) FILTER (WHERE opened_at >= $1 AND opened_at < $2) AS opened,
               count(*) FILTER (WHERE resolved_at >= $1 AND resolved_at < $2) AS resolved,
               count(*) FILTER (WHERE status <> 'resolved') AS live
          FROM alert
        """,
        *_instants(week),
    )
    assert row is not None
    return row


async def quality(connection: Connection, week: date, dataset: str) -> tuple[float | None, int]:
    """How much of a week is good, and on how many of its days that was checked.

    Good is the share of the rows of these days that are neither quarantined nor of a date that failed; None of no rows.
    """
    row = await connection.fetchrow(
        """
        WITH bad AS (SELECT date, count(*) AS rows FROM quarantine WHERE dataset = $2 GROUP BY date)
        SELECT coalesce(sum(part.rows) FILTER (WHERE quality.status = 'passed'), 0)::float8
               / nullif(sum(part.rows + coalesce(bad.rows, 0)), 0)::float8 AS score, count(*) AS days
          FROM partition_quality AS quality JOIN dataset_partition AS part USING (date) LEFT JOIN bad USING (date)
         WHERE part.dataset = $2 AND date BETWEEN $1::date AND $1::date + 6
        """,
        week,
        dataset,
    )
    assert row is not None
    return row["score"], row["days"]


async def save_draft(
    connection: Connection, week: date, content: dict[str, Any], page: Page, generated_at: datetime
) -> UUID:
    """Store the report of a week in place of the one before; its id stays. What readers see is replaced at once."""
    report_id: UUID = await connection.fetchval(
        """
        INSERT INTO report (report_id, kind, week, content, html, html_policy, generated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (kind, week) DO UPDATE
           SET content = excluded.content, html = excluded.html, html_policy = excluded.html_policy,
               generated_at = excluded.generated_at
        RETURNING report_id
        """,
        uuid4(),
        KIND,
        week,
        content,
        page.html,
        page.policy,
        generated_at,
    )
    return report_id


async def publish(connection: Connection, week: date) -> asyncpg.Record:
    """Let readers see the report of a week, from now on if they did not before; the report."""
    row = await connection.fetchrow(
        """
        UPDATE report SET published_at = coalesce(published_at, now()) WHERE kind = $1 AND week = $2 RETURNING *
        """,
        KIND,
        week,
    )
    assert row is not None
    return row


async def mark_mailed(connection: Connection, report_id: UUID) -> None:
    """Remember that a report was mailed."""
    await connection.execute("UPDATE report SET mailed_at = now() WHERE report_id = $1", report_id)


async def list_reports(connection: Connection, paging: PageRequest) -> list[dict[str, Any]]:
    """A page of published reports, the latest week first."""
    # As text, because a page cursor holds no dates; ISO dates sort the same way.
    week = cast(report.c.week, Text)
    statement = select(report, week.label("week_text")).where(report.c.published_at.is_not(None))
    return [
        dict(row)
        for row in await fetch_all(connection, keyset(statement, (week.desc(), report.c.report_id.desc()), paging))
    ]


async def find_report(connection: Connection, report_id: UUID) -> asyncpg.Record | None:
    """A published report."""
    return await connection.fetchrow(
        "SELECT * FROM report WHERE report_id = $1 AND published_at IS NOT NULL", report_id
    )


def _instants(week: date) -> tuple[datetime, datetime]:
    start = datetime(week.year, week.month, week.day, tzinfo=UTC)
    return start, start + timedelta(days=DAYS)
