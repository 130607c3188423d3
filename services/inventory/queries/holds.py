"""Allocations: the units that reservations hold. Their levels are always locked before them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from libs.chassis.database import Connection
from services.inventory.reservation import Hold
from services.inventory.stock import StockItem

_HOLD = "hold.reservation_id, hold.line_no, hold.sku, hold.warehouse_id, hold.outstanding, hold.expires_at"


async def overdue(connection: Connection, items: Sequence[StockItem]) -> tuple[datetime, list[Hold]]:
    """The time now, by the database's clock after the locks of these items, and their holds that are overdue at it."""
    rows = await connection.fetch(
        f"""
        SELECT statement_timestamp(), {_HOLD}
          FROM (SELECT) AS always
          LEFT JOIN (unnest($1::text[], $2::text[]) AS wanted(sku, warehouse_id)
                     JOIN allocation AS hold USING (sku, warehouse_id))
                 ON hold.outstanding > 0 AND hold.expires_at <= statement_timestamp()
        """,
        [item.sku for item in items],
        [item.warehouse_id for item in items],
    )
    return rows[0][0], [Hold(*row[1:]) for row in rows if row[1] is not None]


async def of_reservations(connection: Connection, reservation_ids: Collection[UUID]) -> list[Hold]:
    """The holds of these reservations, whose levels are locked; in line order. Those with nothing left, too."""
    rows = await connection.fetch(
        f"""
        SELECT {_HOLD} FROM allocation AS hold
         WHERE reservation_id = ANY($1::uuid[])
         ORDER BY reservation_id, line_no
        """,
        list(reservation_ids),
    )
    return [Hold(*row) for row in rows]


async def newest_first(connection: Connection, items: Collection[StockItem]) -> list[Hold]:
    """The outstanding holds of these items, whose levels are locked, the newest reservation first."""
    rows = await connection.fetch(
        f"""
        SELECT {_HOLD}
          FROM allocation AS hold
          JOIN unnest($1::text[], $2::text[]) AS wanted(sku, warehouse_id) USING (sku, warehouse_id)
          JOIN reservation USING (reservation_id)
         WHERE hold.outstanding > 0
         ORDER BY reservation.created_at DESC, reservation_id, hold.line_no
        """,
        [item.sku for item in items],
        [item.warehouse_id for item in items],
    )
    return [Hold(*row) for row in rows]


async def settle(connection: Connection, settled: Mapping[tuple[UUID, int], tuple[int, int]]) -> None:
    """Add units to holds, whose levels are locked: (reservation, line) -> (fulfilled, released).

    The database refuses more than was allocated.
    """
    await connection.execute(
        """
        UPDATE allocation AS hold
           SET fulfilled = hold.fulfilled + settled.fulfilled, released = hold.released + settled.released
          FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[])
               AS settled(reservation_id, line_no, fulfilled, released)
         WHERE hold.reservation_id = settled.reservation_id AND hold.line_no = settled.line_no
        """,
        [reservation_id for reservation_id, _ in settled],
        [line_no for _, line_no in settled],
        [fulfilled for fulfilled, _ in settled.values()],
        [released for _, released in settled.values()],
    )
