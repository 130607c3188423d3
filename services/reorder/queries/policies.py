"""Reorder policies: at most one per stock item."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import select

from libs.chassis.database import Connection, fetch_all
from libs.chassis.paging import PageRequest, keyset
from services.reorder.queries.items import ItemFilter, columns
from services.reorder.recommendation import StockItem
from services.reorder.replenishment import MinMax, PolicyKind
from services.reorder.tables import reorder_policy


async def insert_policy(
    connection: Connection, item: StockItem, kind: PolicyKind, reorder_point: int, order_up_to: int
) -> dict[str, Any] | None:
    """The new policy, or None when the stock item has one already."""
    row = await connection.fetchrow(
        """
        INSERT INTO reorder_policy (sku, warehouse_id, kind, reorder_point, order_up_to) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT DO NOTHING
        RETURNING *
        """,
        *item,
        kind.value,
        reorder_point,
        order_up_to,
    )
    return dict(row) if row else None


async def update_policy(
    connection: Connection, item: StockItem, kind: PolicyKind, reorder_point: int, order_up_to: int
) -> dict[str, Any]:
    """The next version of an existing policy."""
    row = await connection.fetchrow(
        """
        UPDATE reorder_policy
           SET kind = $3, reorder_point = $4, order_up_to = $5, version = version + 1, updated_at = now()
         WHERE sku = $1 AND warehouse_id = $2
        RETURNING *
        """,
        *item,
        kind.value,
        reorder_point,
        order_up_to,
    )
    assert row is not None
    return dict(row)


async def get_policy(connection: Connection, item: StockItem) -> dict[str, Any] | None:
    """The policy of a stock item; stable while its position is locked."""
    row = await connection.fetchrow("SELECT * FROM reorder_policy WHERE sku = $1 AND warehouse_id = $2", *item)
    return dict(row) if row else None


async def list_policies(connection: Connection, paging: PageRequest, items: ItemFilter) -> list[dict[str, Any]]:
    """A page of policies in order of sku and warehouse."""
    table = reorder_policy
    statement = items.narrow(select(table), table)
    return [
        dict(row) for row in await fetch_all(connection, keyset(statement, (table.c.sku, table.c.warehouse_id), paging))
    ]


async def min_max_policies(connection: Connection, items: Collection[StockItem]) -> dict[StockItem, MinMax]:
    """The policies of those stock items that have one."""
    rows = await connection.fetch(
        """
        SELECT sku, warehouse_id, policy.reorder_point, policy.order_up_to
          FROM reorder_policy AS policy
          JOIN unnest($1::text[], $2::text[]) AS item(sku, warehouse_id) USING (sku, warehouse_id)
         WHERE policy.kind = 'min_max'
        """,
        *columns(items),
    )
    return {
        StockItem(row["sku"], row["warehouse_id"]): MinMax(row["reorder_point"], row["order_up_to"]) for row in rows
    }
