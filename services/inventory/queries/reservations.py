"""Reservations and their allocations: inserted and read. What they hold changes in `holds.py`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import BigInteger, Select, case, cast, func, select

from libs.chassis.database import Connection
from services.inventory.reservation import Reservation
from services.inventory.tables import allocation, reservation


async def request_hash(connection: Connection, reservation_id: UUID) -> bytes | None:
    """The hash of the request that made the reservation, or None without one."""
    found: bytes | None = await connection.fetchval(
        "SELECT request_hash FROM reservation WHERE reservation_id = $1", reservation_id
    )
    return found


async def insert(connection: Connection, asked: Reservation, created_at: datetime, expires_at: datetime) -> bool:
    """Write a reservation; False when somebody else has just made it."""
    status = await connection.execute(
        """
        INSERT INTO reservation (reservation_id, reference_id, notes, actor, source, request_hash, created_at,
                                 expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT DO NOTHING
        """,
        asked.reservation_id,
        asked.reference_id,
        asked.notes,
        asked.actor,
        asked.source,
        asked.request_hash,
        created_at,
        expires_at,
    )
    return status == "INSERT 0 1"


async def insert_allocations(
    connection: Connection, asked: Reservation, quantities: Sequence[int], expires_at: datetime
) -> None:
    """Write what each line of a reservation got; the levels are locked."""
    await connection.execute(
        """
        INSERT INTO allocation (reservation_id, line_no, sku, warehouse_id, quantity_requested, quantity, expires_at)
        SELECT $1, line_no, sku, warehouse_id, requested, quantity, $6
          FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[])
               WITH ORDINALITY AS line(sku, warehouse_id, requested, quantity, line_no)
        """,
        asked.reservation_id,
        [line.sku for line in asked.lines],
        [line.warehouse_id for line in asked.lines],
        [line.quantity for line in asked.lines],
        quantities,
        expires_at,
    )


async def warehouse_ids(connection: Connection, reservation_id: UUID) -> list[str]:
    """The warehouses that a reservation holds or held units in."""
    rows = await connection.fetch(
        "SELECT DISTINCT warehouse_id FROM allocation WHERE reservation_id = $1 ORDER BY warehouse_id", reservation_id
    )
    return [row["warehouse_id"] for row in rows]


async def find(connection: Connection, reservation_id: UUID) -> Mapping[str, Any] | None:
    """A reservation with its `lines`, what is overdue counted as released, and `now` of the database."""
    head: asyncpg.Record | None = await connection.fetchrow(
        """
        SELECT reservation_id, reference_id, notes, actor, source, created_at, expires_at, statement_timestamp() AS now
          FROM reservation
         WHERE reservation_id = $1
        """,
        reservation_id,
    )
    if head is None:
        return None
    lines = await connection.fetch(
        """
        SELECT line_no, sku, warehouse_id, quantity_requested, quantity, fulfilled,
               CASE WHEN expires_at <= $2 THEN quantity - fulfilled ELSE released END AS released,
               CASE WHEN expires_at <= $2 THEN 0 ELSE outstanding END AS outstanding
          FROM allocation
         WHERE reservation_id = $1
         ORDER BY line_no
        """,
        reservation_id,
        head["now"],
    )
    return {**head, "lines": lines}


def heads() -> Select[Any]:
    """One row per reservation with the totals of its lines, what is overdue counted as released."""
    is_due = allocation.c.expires_at <= func.statement_timestamp()
    totals = (
        select(
            allocation.c.reservation_id,
            cast(func.sum(allocation.c.quantity), BigInteger).label("quantity"),
            cast(func.sum(allocation.c.fulfilled), BigInteger).label("fulfilled"),
            cast(func.sum(case((is_due, 0), else_=allocation.c.outstanding)), BigInteger).label("outstanding"),
        )
        .where(allocation.c.reservation_id == reservation.c.reservation_id)
        .group_by(allocation.c.reservation_id)
        .lateral()
    )
    return select(
        *reservation.c,
        totals.c.quantity,
        totals.c.fulfilled,
        totals.c.outstanding,
        func.statement_timestamp().label("now"),
    ).join_from(reservation, totals, totals.c.reservation_id == reservation.c.reservation_id)


async def overdue_items(connection: Connection, limit: int) -> list[asyncpg.Record]:
    """At most `limit` stock items, (sku, warehouse_id), that overdue reservations still hold units of.

    Those whose level does not hold as many units are left out: they wait for a repair, and audits A3 and A7 name them.
    """
    return await connection.fetch(
        """
        SELECT sku, warehouse_id
          FROM (SELECT DISTINCT sku, warehouse_id
                  FROM (SELECT sku, warehouse_id FROM allocation
                         WHERE outstanding > 0 AND expires_at <= statement_timestamp()
                         ORDER BY expires_at
                         LIMIT $1) AS due) AS item
          JOIN stock_level AS level USING (sku, warehouse_id)
         WHERE level.quantity_reserved >= (
               SELECT sum(outstanding)
                 FROM allocation AS hold
                WHERE hold.sku = item.sku AND hold.warehouse_id = item.warehouse_id
                  AND hold.outstanding > 0 AND hold.expires_at <= statement_timestamp())
         ORDER BY sku, warehouse_id
        """,
        limit,
    )
