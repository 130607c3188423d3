"""Stock levels as readers see them: holds that are overdue count as available, swept or not."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import asyncpg
from sqlalchemy import BigInteger, ColumnElement, FromClause, Select, case, cast, func, literal_column, select, true

from libs.chassis.database import Connection
from libs.events.inventory import StockStatus
from services.inventory.stock import StockItem
from services.inventory.tables import allocation, ledger_entry, stock_level

_level = stock_level.c
_entry = ledger_entry.c
_of_the_level = (_entry.sku == _level.sku, _entry.warehouse_id == _level.warehouse_id)
# Few rows, because the sweep takes them away: looked up once, and not for each level.
_overdue = (
    select(
        allocation.c.sku, allocation.c.warehouse_id, cast(func.sum(allocation.c.outstanding), BigInteger).label("units")
    )
    .where(allocation.c.outstanding > literal_column("0"), allocation.c.expires_at <= func.statement_timestamp())
    .group_by(allocation.c.sku, allocation.c.warehouse_id)
    .subquery("overdue")
)
_of_the_overdue = (_overdue.c.sku == _level.sku) & (_overdue.c.warehouse_id == _level.warehouse_id)
_freed = func.coalesce(_overdue.c.units, 0)
_reserved = (_level.quantity_reserved - _freed).label("quantity_reserved")
available: ColumnElement[Any] = _level.quantity_on_hand - _level.quantity_reserved + _freed
status: ColumnElement[Any] = case(
    (available == 0, StockStatus.OUT_OF_STOCK.value),
    (available <= _level.reorder_point, StockStatus.LOW_STOCK.value),
    else_=StockStatus.IN_STOCK.value,
)


def stock_levels() -> Select[Any]:
    """One row per stock item that has a level."""
    return select(
        _level.sku,
        _level.warehouse_id,
        _level.quantity_on_hand,
        _reserved,
        available.label("quantity_available"),
        _level.reorder_point,
        _level.reorder_quantity,
        status.label("stock_status"),
        _level.sequence,
        _level.revision,
        _level.updated_at,
    ).join_from(stock_level, _overdue, _of_the_overdue, isouter=True)


def recorded_levels(as_of: datetime) -> Select[Any]:
    """What was on hand by what was recorded at this instant, one row per stock item: the past as it was known then."""
    latest = (
        select(_entry.quantity_after, _entry.sequence)
        .where(*_of_the_level, _entry.recorded_at <= as_of)
        .order_by(_entry.sequence.desc())
        .limit(1)
        .lateral()
    )
    return _levels_as_of(latest, latest.c.quantity_after, latest.c.sequence)


def occurred_levels(as_of: datetime) -> Select[Any]:
    """What was on hand by what had happened at this instant, as far as it is known now, one row per stock item.

    May be negative when entries were recorded out of order.
    """
    sums = (
        select(cast(func.sum(_entry.quantity_change), BigInteger).label("on_hand"), func.count().label("entries"))
        .where(*_of_the_level, _entry.occurred_at <= as_of)
        .lateral()
    )
    return _levels_as_of(sums, sums.c.on_hand, sums.c.entries)


def _levels_as_of(ledger: FromClause, on_hand: ColumnElement[Any], entries: ColumnElement[Any]) -> Select[Any]:
    return select(
        _level.sku,
        _level.warehouse_id,
        func.coalesce(on_hand, 0).label("quantity_on_hand"),
        func.coalesce(entries, 0).label("entries"),
    ).join_from(stock_level, ledger, true(), isouter=True)


async def read_levels(connection: Connection, items: Collection[StockItem]) -> dict[StockItem, asyncpg.Record]:
    """Levels by stock item: nothing on hand, revision 0, where it has none yet; left out where it can have none."""
    rows = await connection.fetch(
        """
        SELECT sku, warehouse_id, quantity_on_hand, quantity_reserved,
               quantity_on_hand - quantity_reserved AS quantity_available, reorder_point, reorder_quantity,
               CASE WHEN quantity_on_hand = quantity_reserved THEN 'OUT_OF_STOCK'
                    WHEN quantity_on_hand - quantity_reserved <= reorder_point THEN 'LOW_STOCK'
                    ELSE 'IN_STOCK' END AS stock_status,
               sequence, revision, updated_at
          FROM (SELECT product.sku, warehouse.warehouse_id, coalesce(quantity_on_hand, 0) AS quantity_on_hand,
                       coalesce(quantity_reserved, 0) - (
                           SELECT coalesce(sum(outstanding), 0)::bigint
                             FROM allocation
                            WHERE (allocation.sku, allocation.warehouse_id) = (product.sku, warehouse.warehouse_id)
                              AND outstanding > 0
                              AND expires_at <= statement_timestamp()) AS quantity_reserved,
                       reorder_point, reorder_quantity, coalesce(sequence, 0) AS sequence,
                       coalesce(revision, 0) AS revision, level.updated_at
                  FROM unnest($1::text[], $2::text[]) AS asked (sku, warehouse_id)
                  JOIN product USING (sku)
                  JOIN warehouse USING (warehouse_id)
                  LEFT JOIN stock_level AS level USING (sku, warehouse_id)) AS item
        """,
        [item.sku for item in items],
        [item.warehouse_id for item in items],
    )
    return {StockItem(row["sku"], row["warehouse_id"]): row for row in rows}
