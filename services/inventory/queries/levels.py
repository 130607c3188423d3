"""Stock levels: created, locked, written."""

from collections.abc import Collection, Sequence
from datetime import datetime

from libs.chassis.database import Connection
from services.inventory.stock import StockItem, StockLevel
from services.inventory.transaction import Catalogued


async def create_missing(connection: Connection, items: Sequence[StockItem]) -> list[StockItem]:
    """Create the levels, with nothing on hand, of the items that have none; returns these. `items` are sorted.

    Items whose product or warehouse is unknown are left out.
    """
    rows = await connection.fetch(
        """
        INSERT INTO stock_level (sku, warehouse_id)
        SELECT sku, warehouse_id
          FROM unnest($1::text[], $2::text[]) AS wanted(sku, warehouse_id)
          JOIN product USING (sku)
          JOIN warehouse USING (warehouse_id)
         WHERE NOT EXISTS (SELECT FROM stock_level AS present
                            WHERE present.sku = wanted.sku AND present.warehouse_id = wanted.warehouse_id)
         ORDER BY sku, warehouse_id
        ON CONFLICT DO NOTHING
        RETURNING sku, warehouse_id
        """,
        *_columns(items),
    )
    return [StockItem(*row) for row in rows]


async def remove(connection: Connection, items: Collection[StockItem]) -> None:
    """Take back levels that were created and not used in this database transaction."""
    await connection.execute(
        """
        DELETE FROM stock_level AS level
         USING unnest($1::text[], $2::text[]) AS unused(sku, warehouse_id)
         WHERE level.sku = unused.sku AND level.warehouse_id = unused.warehouse_id
        """,
        *_columns(items),
    )


async def lock(connection: Connection, items: Sequence[StockItem]) -> dict[StockItem, StockLevel]:
    """The levels of the items that have one, locked against every other writer in (sku, warehouse_id) order.

    A statement of its own: a lock beside a write of the same rows in one statement loses updates.
    """
    rows = await connection.fetch(
        """
        SELECT level.sku, level.warehouse_id, quantity_on_hand, quantity_reserved, reorder_point, reorder_quantity,
               sequence, revision, updated_at
          FROM stock_level AS level
          JOIN unnest($1::text[], $2::text[]) AS wanted(sku, warehouse_id) USING (sku, warehouse_id)
         ORDER BY level.sku, level.warehouse_id
           FOR NO KEY UPDATE OF level
        """,
        *_columns(items),
    )
    return {StockItem(row[0], row[1]): StockLevel(*row) for row in rows}


async def lock_of_sku(connection: Connection, sku: str) -> list[StockLevel]:
    """Every level of a product, locked in order."""
    rows = await connection.fetch(f"{_LOCK_WHERE} sku = $1 ORDER BY sku, warehouse_id FOR NO KEY UPDATE", sku)
    return [StockLevel(*row) for row in rows]


async def lock_of_warehouse(connection: Connection, warehouse_id: str) -> list[StockLevel]:
    """Every level of a warehouse, locked in order."""
    rows = await connection.fetch(
        f"{_LOCK_WHERE} warehouse_id = $1 ORDER BY sku, warehouse_id FOR NO KEY UPDATE", warehouse_id
    )
    return [StockLevel(*row) for row in rows]


async def unusable(connection: Connection, items: Collection[StockItem]) -> dict[StockItem, Catalogued]:
    """The items that no stock may move in, because their product or warehouse is unknown or archived.

    Asked after the levels are locked, the answer holds until commit: archiving takes the same locks.
    """
    rows = await connection.fetch(
        """
        SELECT wanted.sku, wanted.warehouse_id, product.status, warehouse.status
          FROM unnest($1::text[], $2::text[]) AS wanted(sku, warehouse_id)
          LEFT JOIN product USING (sku)
          LEFT JOIN warehouse USING (warehouse_id)
         WHERE product.status IS DISTINCT FROM 'active' OR warehouse.status IS DISTINCT FROM 'active'
        """,
        *_columns(items),
    )
    return {StockItem(row[0], row[1]): Catalogued(row[2], row[3]) for row in rows}


async def write(connection: Connection, levels: Collection[StockLevel], updated_at: datetime) -> None:
    """Set the levels, which are locked, to these quantities, sequences and revisions."""
    await connection.execute(
        """
        UPDATE stock_level AS level
           SET quantity_on_hand = new.on_hand, quantity_reserved = new.reserved, sequence = new.sequence,
               revision = new.revision, updated_at = $7
          FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
               AS new(sku, warehouse_id, on_hand, reserved, sequence, revision)
         WHERE level.sku = new.sku AND level.warehouse_id = new.warehouse_id
        """,
        [level.sku for level in levels],
        [level.warehouse_id for level in levels],
        [level.quantity_on_hand for level in levels],
        [level.quantity_reserved for level in levels],
        [level.sequence for level in levels],
        [level.revision for level in levels],
        updated_at,
    )


async def write_thresholds(connection: Connection, level: StockLevel) -> None:
    """Set the thresholds of a level, which is locked."""
    await connection.execute(
        "UPDATE stock_level SET reorder_point = $3, reorder_quantity = $4 WHERE sku = $1 AND warehouse_id = $2",
        level.sku,
        level.warehouse_id,
        level.reorder_point,
        level.reorder_quantity,
    )


_LOCK_WHERE = """
    SELECT sku, warehouse_id, quantity_on_hand, quantity_reserved, reorder_point, reorder_quantity, sequence, revision,
           updated_at
      FROM stock_level
     WHERE"""


def _columns(items: Collection[StockItem]) -> tuple[list[str], list[str]]:
    return [item.sku for item in items], [item.warehouse_id for item in items]
