"""Inventory positions, one row per stock item."""

import json
from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

import asyncpg
from sqlalchemy import select

from libs.chassis.database import Connection, fetch_all
from libs.chassis.paging import PageRequest, keyset
from libs.events.postgres import as_ranges
from libs.events.sequence import Range, Seen
from services.reorder.inventory_position import InventoryPosition
from services.reorder.queries.items import ItemFilter, columns
from services.reorder.recommendation import StockItem
from services.reorder.replenishment import Demand, Stock
from services.reorder.tables import inventory_position


async def hold_positions(connection: Connection, items: Collection[StockItem]) -> list[InventoryPosition]:
    """The positions of these stock items, locked, new ones included. Inserts in the order of the locks."""
    await connection.execute(
        """
        INSERT INTO inventory_position (sku, warehouse_id)
        SELECT sku, warehouse_id FROM unnest($1::text[], $2::text[]) AS item(sku, warehouse_id)
         ORDER BY sku COLLATE "C", warehouse_id COLLATE "C"
        ON CONFLICT DO NOTHING
        """,
        *columns(items),
    )
    return await lock_positions(connection, items)


async def lock_positions(connection: Connection, items: Collection[StockItem]) -> list[InventoryPosition]:
    """The positions of these stock items, locked in (sku, warehouse_id) order.

    This row is the lock of everything that reorder keeps about a stock item: take it before policy or recommendation.
    """
    rows = await connection.fetch(
        """
        SELECT position.*
          FROM inventory_position AS position
          JOIN unnest($1::text[], $2::text[]) AS item(sku, warehouse_id) USING (sku, warehouse_id)
         ORDER BY position.sku, position.warehouse_id
           FOR NO KEY UPDATE OF position
        """,
        *columns(items),
    )
    return [_position(row) for row in rows]


async def save_positions(connection: Connection, positions: Sequence[InventoryPosition]) -> None:
    """Write what events changed in locked positions."""
    await connection.execute(
        """
        UPDATE inventory_position AS position
           SET last_sequence = news.last_sequence, missing = news.missing::int8multirange, revision = news.revision,
               quantity_on_hand = news.quantity_on_hand, quantity_reserved = news.quantity_reserved,
               thresholds_revision = news.thresholds_revision,
               reorder_point = news.reorder_point, reorder_quantity = news.reorder_quantity,
               demand_revision = news.demand_revision, demand = news.demand::jsonb, updated_at = now()
          FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
                      $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[])
               AS news(sku, warehouse_id, last_sequence, missing, revision, quantity_on_hand, quantity_reserved,
                       thresholds_revision, reorder_point, reorder_quantity, demand_revision, demand)
         WHERE position.sku = news.sku AND position.warehouse_id = news.warehouse_id
        """,
        *columns([position.item for position in positions]),
        [position.seen.last for position in positions],
        [_multirange(position.seen.missing) for position in positions],
        [position.revision for position in positions],
        [position.stock.quantity_on_hand for position in positions],
        [position.stock.quantity_reserved for position in positions],
        [position.thresholds_revision for position in positions],
        [position.reorder_point for position in positions],
        [position.reorder_quantity for position in positions],
        [position.demand_revision for position in positions],
        [_demand_json(position.demand) for position in positions],
    )


async def list_positions(connection: Connection, paging: PageRequest, items: ItemFilter) -> list[dict[str, Any]]:
    """A page of positions in order of sku and warehouse."""
    table = inventory_position
    statement = items.narrow(select(table), table)
    return [
        dict(row) for row in await fetch_all(connection, keyset(statement, (table.c.sku, table.c.warehouse_id), paging))
    ]


async def items_after(connection: Connection, after: StockItem, limit: int) -> list[StockItem]:
    """The next stock items in lock order."""
    rows = await connection.fetch(
        """
        SELECT sku, warehouse_id FROM inventory_position WHERE (sku, warehouse_id) > ($1, $2)
         ORDER BY sku, warehouse_id LIMIT $3
        """,
        after.sku,
        after.warehouse_id,
        limit,
    )
    return [StockItem(row["sku"], row["warehouse_id"]) for row in rows]


def _position(row: asyncpg.Record) -> InventoryPosition:
    return InventoryPosition(
        item=StockItem(row["sku"], row["warehouse_id"]),
        seen=Seen(row["last_sequence"], as_ranges(row["missing"])),
        revision=row["revision"],
        stock=Stock(row["quantity_on_hand"], row["quantity_reserved"], row["quantity_on_order"]),
        thresholds_revision=row["thresholds_revision"],
        reorder_point=row["reorder_point"],
        reorder_quantity=row["reorder_quantity"],
        demand_revision=row["demand_revision"],
        demand=_demand(row["demand"]),
    )


def _multirange(ranges: Sequence[Range]) -> str:
    """The text form: an array of multiranges would reach Postgres as a two-dimensional array of ranges."""
    return "{" + ",".join(f"[{start},{end})" for start, end in ranges) + "}"


def _demand(content: dict[str, Any] | None) -> Demand | None:
    if content is None:
        return None
    velocities = {int(days): velocity for days, velocity in content["velocityPerDay"].items()}
    return Demand(date.fromisoformat(content["asOf"]), velocities)


def _demand_json(demand: Demand | None) -> str | None:
    if demand is None:
        return None
    return json.dumps({"asOf": demand.as_of.isoformat(), "velocityPerDay": demand.velocity_per_day})
