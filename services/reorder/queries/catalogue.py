"""What the inventory service publishes about its catalogue and stock levels."""

from collections.abc import Collection

from libs.chassis.database import Connection
from services.reorder.queries.items import columns
from services.reorder.recommendation import StockItem


async def stocked_items(connection: Connection, items: Collection[StockItem]) -> set[StockItem]:
    """Which of these stock items the inventory service already keeps a level for."""
    rows = await connection.fetch(
        """
        SELECT sku, warehouse_id FROM inventory.stock_levels_v1
          JOIN unnest($1::text[], $2::text[]) AS item(sku, warehouse_id) USING (sku, warehouse_id)
        """,
        *columns(items),
    )
    return {StockItem(row["sku"], row["warehouse_id"]) for row in rows}


async def is_known(connection: Connection, item: StockItem) -> tuple[bool, bool]:
    """Whether the inventory service knows the product, and whether it knows the warehouse."""
    row = await connection.fetchrow(
        """
        SELECT EXISTS (SELECT FROM inventory.products_v1 WHERE sku = $1) AS product,
               EXISTS (SELECT FROM inventory.warehouses_v1 WHERE warehouse_id = $2) AS warehouse
        """,
        *item,
    )
    assert row is not None
    return row["product"], row["warehouse"]
