"""Stock repairs: what is true, and what was changed."""

from collections.abc import Sequence
from dataclasses import astuple
from datetime import datetime
from uuid import UUID

import asyncpg

from libs.chassis.database import Connection
from services.inventory.repair import Change, Repair, Truth
from services.inventory.stock import StockItem


async def truths(connection: Connection, items: Sequence[StockItem]) -> dict[StockItem, Truth]:
    """What the ledger and the allocations say of those items that have a level; the levels are locked."""
    rows = await connection.fetch(
        """
        SELECT level.sku, level.warehouse_id, ledger.on_hand, holds.reserved, ledger.last
          FROM stock_level AS level
          JOIN unnest($1::text[], $2::text[]) AS wanted(sku, warehouse_id) USING (sku, warehouse_id)
         CROSS JOIN LATERAL (
               SELECT coalesce(sum(quantity_change), 0)::bigint AS on_hand, coalesce(max(sequence), 0) AS last
                 FROM ledger_entry AS entry
                WHERE entry.sku = level.sku AND entry.warehouse_id = level.warehouse_id) AS ledger
         CROSS JOIN LATERAL (
               SELECT coalesce(sum(outstanding), 0)::bigint AS reserved
                 FROM allocation AS hold
                WHERE hold.sku = level.sku AND hold.warehouse_id = level.warehouse_id
                  AND hold.outstanding > 0) AS holds
        """,
        [item.sku for item in items],
        [item.warehouse_id for item in items],
    )
    return {StockItem(row[0], row[1]): Truth(*row[2:]) for row in rows}


async def request_hash(connection: Connection, repair_id: UUID) -> bytes | None:
    """The hash of the request that made the repair, or None without one."""
    found: bytes | None = await connection.fetchval(
        "SELECT request_hash FROM stock_repair WHERE repair_id = $1", repair_id
    )
    return found


async def exists(connection: Connection, repair_id: UUID) -> bool:
    """Whether the repair was made."""
    return await request_hash(connection, repair_id) is not None


async def insert(connection: Connection, repair: Repair, applied_at: datetime) -> bool:
    """Write a repair; False when somebody else has just made it."""
    status = await connection.execute(
        """
        INSERT INTO stock_repair (repair_id, plan_id, reason, actor, request_hash, undoes_id, applied_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (repair_id) DO NOTHING
        """,
        repair.repair_id,
        repair.plan_id,
        repair.reason,
        repair.actor,
        repair.request_hash,
        repair.undoes_id,
        applied_at,
    )
    return status == "INSERT 0 1"


async def insert_changes(connection: Connection, repair_id: UUID, changes: Sequence[Change]) -> None:
    """Write what a repair changed."""
    columns = list(zip(*(astuple(change) for change in changes), strict=True)) or [()] * 9
    await connection.execute(
        """
        INSERT INTO stock_repair_item (repair_id, sku, warehouse_id, on_hand_before, on_hand_after, reserved_before,
                                       reserved_after, sequence_before, sequence_after, revision)
        SELECT $1, *
          FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
                      $9::bigint[], $10::bigint[])
        """,
        repair_id,
        *columns,
    )


async def changes(connection: Connection, repair_id: UUID) -> list[Change]:
    """What a repair changed, by stock item."""
    rows = await connection.fetch(
        """
        SELECT sku, warehouse_id, on_hand_before, on_hand_after, reserved_before, reserved_after, sequence_before,
               sequence_after, revision
          FROM stock_repair_item
         WHERE repair_id = $1
         ORDER BY sku, warehouse_id
        """,
        repair_id,
    )
    return [Change(*row) for row in rows]


async def head(connection: Connection, repair_id: UUID) -> asyncpg.Record | None:
    """A repair without its changes."""
    return await connection.fetchrow(
        """
        SELECT repair_id, plan_id, reason, actor, undoes_id, applied_at FROM stock_repair WHERE repair_id = $1
        """,
        repair_id,
    )
