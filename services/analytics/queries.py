"""SQL over the views that inventory and pipeline publish. Every figure follows the definitions of the metrics page.

Demand = units out by SALE minus units in by RETURN. An opening balance is no movement.
"""

from collections.abc import Collection
from datetime import date
from typing import Any

from sqlalchemy import Select, func, select

from libs.chassis.database import Connection, fetch_all
from libs.chassis.paging import PageRequest, keyset
from services.analytics.filters import ItemFilter
from services.analytics.tables import daily_metrics, stock_metrics

Row = dict[str, Any]

DEMAND = """
    coalesce(sum(units_out) FILTER (WHERE transaction_type = 'SALE'), 0)
    - coalesce(sum(units_in) FILTER (WHERE transaction_type = 'RETURN'), 0)
"""


async def metrics_date(connection: Connection) -> date | None:
    """The day that ends every window: the latest that the pipeline has calculated; None before the first."""
    as_of: date | None = await connection.fetchval("SELECT max(as_of) FROM pipeline.stock_metrics_v1")
    return as_of


async def facts_version(connection: Connection) -> int:
    """The number of ledger entries in the facts: rises with every change of them, in the same transaction."""
    version: int = await connection.fetchval(
        """
        SELECT coalesce(sum(last_sequence - coalesce(gaps.missing, 0)), 0)::bigint
          FROM pipeline.stock_positions_v1 AS position
          LEFT JOIN LATERAL (SELECT sum(upper(gap) - lower(gap)) AS missing
                               FROM unnest(position.missing) AS gap
                              WHERE NOT isempty(position.missing)) AS gaps ON true
        """
    )
    return version


async def list_metrics(connection: Connection, paging: PageRequest, items: ItemFilter) -> list[Row]:
    """A page of the metrics of stock items, in order of sku and warehouse."""
    table = stock_metrics
    statement = keyset(items.narrow(select(table), table), (table.c.sku, table.c.warehouse_id), paging)
    return [dict(row) for row in await fetch_all(connection, statement)]


async def list_daily_metrics(
    connection: Connection, paging: PageRequest, items: ItemFilter, day: date | None, **classes: str | None
) -> list[Row]:
    """A page of what the daily batch calculated for a date, the latest where it is None, in order of sku and warehouse.

    `classes` names columns and the value that they must have, None = any.
    """
    table = daily_metrics
    # max(date) would read every row of the view, which leaves some dates out.
    latest = select(table.c.date).order_by(table.c.date.desc()).limit(1).scalar_subquery()
    statement = select(table, table.c.date.label("as_of")).where(table.c.date == (latest if day is None else day))
    for column, name in classes.items():
        if name is not None:
            statement = statement.where(table.c[column] == name)
    statement = keyset(items.narrow(statement, table), (table.c.sku, table.c.warehouse_id), paging)
    return [dict(row) for row in await fetch_all(connection, statement)]


async def list_demand_by_sku(
    connection: Connection, paging: PageRequest, items: ItemFilter, as_of: date | None
) -> list[Row]:
    """A page of demand per sku, summed over its warehouses, in order of sku.

    Stock items calculated for an earlier day only are idle: they have no demand in the windows that end now.
    """
    current = _current_demand(items, as_of).subquery()
    statement = keyset(select(current), (current.c.sku,), paging)
    return [dict(row) for row in await fetch_all(connection, statement)]


def _current_demand(items: ItemFilter, as_of: date | None) -> Select[Any]:
    table = stock_metrics
    totals = [func.sum(table.c[f"demand_{days}"]).label(f"demand_{days}") for days in (7, 30, 90)]
    latest = [func.max(table.c.revision).label("revision"), func.max(table.c.calculated_at).label("calculated_at")]
    statement = select(table.c.sku, table.c.as_of, *totals, *latest).where(table.c.as_of == as_of)
    return items.narrow(statement, table).group_by(table.c.sku, table.c.as_of)


async def top_movers(
    connection: Connection, first: date, last: date, warehouses: Collection[str] | None, limit: int
) -> list[Row]:
    """The skus with most demand in a period of whole days; ties in byte order of the sku."""
    rows = await connection.fetch(
        f"""
        SELECT sku, {DEMAND} AS net_units, sum(units_out) AS units_out, sum(units_in) AS units_in,
               sum(movements) AS movements, count(DISTINCT warehouse_id) AS warehouses
          FROM pipeline.daily_movements_v1
         WHERE date BETWEEN $1 AND $2 AND transaction_type <> 'OPENING_BALANCE'
           AND ($3::text[] IS NULL OR warehouse_id = ANY($3))
         GROUP BY sku
         ORDER BY net_units DESC, sku COLLATE "C"
         LIMIT $4
        """,
        first,
        last,
        warehouses,
        limit,
    )
    return [dict(row) for row in rows]


async def movement_totals(connection: Connection, warehouses: Collection[str] | None) -> Row:
    """Totals over all facts."""
    row = await connection.fetchrow(
        f"""
        SELECT coalesce(sum(movements), 0) AS movements, {DEMAND} AS net_units_sold,
               coalesce(sum(units_out), 0) AS units_out, coalesce(sum(units_in), 0) AS units_in,
               count(DISTINCT sku) AS skus, count(DISTINCT warehouse_id) AS warehouses,
               count(DISTINCT (sku, warehouse_id)) AS stock_items, count(DISTINCT date) AS days
          FROM pipeline.daily_movements_v1
         WHERE transaction_type <> 'OPENING_BALANCE' AND ($1::text[] IS NULL OR warehouse_id = ANY($1))
        """,
        warehouses,
    )
    assert row is not None
    return dict(row)


async def document_totals(connection: Connection) -> Row:
    """How many references the posted documents have, and from when to when they are."""
    row = await connection.fetchrow(
        """
        SELECT count(DISTINCT reference_id) AS references, min(occurred_at) AS first_at, max(occurred_at) AS last_at
          FROM inventory.transactions_v1
         WHERE transaction_type <> 'OPENING_BALANCE'
        """
    )
    assert row is not None
    return dict(row)


async def document_totals_of(connection: Connection, warehouses: Collection[str]) -> Row:
    """As `document_totals`, of documents with lines in these warehouses."""
    row = await connection.fetchrow(
        """
        SELECT count(DISTINCT reference_id) AS references, min(occurred_at) AS first_at, max(occurred_at) AS last_at
          FROM inventory.ledger_entries_v1
         WHERE transaction_type <> 'OPENING_BALANCE' AND warehouse_id = ANY($1)
        """,
        warehouses,
    )
    assert row is not None
    return dict(row)
