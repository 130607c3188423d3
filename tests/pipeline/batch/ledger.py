"""Fills the ledger of the inventory service as its own statements would, for many entries at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg

from tests.stack import Database


@dataclass(frozen=True, slots=True)
class Move:
    """A ledger entry to be."""

    at: datetime
    units: int
    kind: str = "SALE"
    sku: str = "A"
    warehouse_id: str = "X"
    unit_price: Decimal | None = None
    reference_id: str | None = None


def on(day: int, units: int, kind: str = "SALE", sku: str = "A", warehouse_id: str = "X") -> Move:
    """A move in January 2026, at ten o'clock."""
    return Move(datetime(2026, 1, day, 10, tzinfo=UTC), units, kind, sku, warehouse_id)


async def post(database: Database, moves: Iterable[Move]) -> None:
    """Add entries in the given order, one transaction document each, all in one database transaction."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        async with connection.transaction():
            await connection.execute(_INCOMING)
            await connection.copy_records_to_table(
                "incoming",
                records=[
                    (
                        number,
                        move.at,
                        move.units,
                        move.kind,
                        move.sku,
                        move.warehouse_id,
                        move.unit_price,
                        move.reference_id,
                    )
                    for number, move in enumerate(moves)
                ],
            )
            await connection.execute(_POST)
    finally:
        await connection.close()


async def correct(database: Database, units: int, kind: str) -> None:
    """Give the entries of so many units another type, as somebody with all rights could."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(
            """
            UPDATE inventory.stock_transaction AS document SET transaction_type = $2
              FROM inventory.ledger_entry AS entry
             WHERE entry.transaction_id = document.transaction_id AND quantity_change = $1
            """,
            units,
            kind,
        )
    finally:
        await connection.close()


async def recategorize(database: Database, sku: str, category_id: str, at: datetime) -> None:
    """Put a product into another category, which is named like its id."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute(
            "INSERT INTO inventory.category (category_id, name, request_hash) VALUES ($1, $1, '')"
            " ON CONFLICT DO NOTHING",
            category_id,
        )
        await connection.execute(
            "UPDATE inventory.product SET category_id = $2, updated_at = $3 WHERE sku = $1", sku, category_id, at
        )
    finally:
        await connection.close()


async def empty(database: Database) -> None:
    """Take everything away that `post` has added."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute("""
            SET session_replication_role = replica;
            DELETE FROM inventory.ledger_entry; DELETE FROM inventory.stock_transaction;
            DELETE FROM inventory.stock_level; DELETE FROM inventory.product; DELETE FROM inventory.category;
            DELETE FROM inventory.warehouse;
        """)
    finally:
        await connection.close()


_INCOMING = """
    CREATE TEMP TABLE incoming (number bigint, at timestamptz, units bigint, kind text, sku text COLLATE "C",
                                warehouse_id text COLLATE "C", unit_price numeric, reference_id text) ON COMMIT DROP
"""
_POST = """
    SET LOCAL search_path = inventory, pg_temp;
    INSERT INTO category (category_id, name, request_hash) VALUES ('toys', 'Toys', '') ON CONFLICT DO NOTHING;
    INSERT INTO product (sku, name, category_id, unit_cost, attributes, request_hash)
    SELECT DISTINCT sku, 'Product ' || sku, CASE WHEN sku < 'B' THEN 'toys' END, 2.5, '{}'::jsonb, ''::bytea
      FROM incoming
    ON CONFLICT DO NOTHING;
    INSERT INTO warehouse (warehouse_id, name, timezone, request_hash)
    SELECT DISTINCT warehouse_id, 'Warehouse ' || warehouse_id, 'UTC', ''::bytea FROM incoming ON CONFLICT DO NOTHING;
    INSERT INTO stock_level (sku, warehouse_id) SELECT DISTINCT sku, warehouse_id FROM incoming ON CONFLICT DO NOTHING;

    CREATE TEMP TABLE entry ON COMMIT DROP AS
    SELECT incoming.*, md5(number || clock_timestamp()::text || sku)::uuid AS transaction_id,
           level.sequence + row_number() OVER item AS sequence,
           level.quantity_on_hand + sum(units) OVER item AS quantity_after
      FROM incoming JOIN stock_level AS level USING (sku, warehouse_id)
    WINDOW item AS (PARTITION BY incoming.sku, incoming.warehouse_id ORDER BY number);

    INSERT INTO stock_transaction (transaction_id, transaction_type, reference_id, actor, source, request_hash,
                                   occurred_at, recorded_at, line_count)
    SELECT transaction_id, kind, reference_id, 'test', 'test', ''::bytea, at, greatest(at, now()), 1 FROM entry;
    INSERT INTO ledger_entry (sku, warehouse_id, sequence, transaction_id, line_no, quantity_change, quantity_before,
                              quantity_after, quantity_reserved_after, revision, unit_price, occurred_at, recorded_at)
    SELECT sku, warehouse_id, sequence, transaction_id, 1, units, quantity_after - units, quantity_after, 0, sequence,
           unit_price, at, greatest(at, now()) FROM entry;
    UPDATE stock_level AS level
       SET sequence = latest.sequence, revision = latest.sequence, quantity_on_hand = latest.quantity_after
      FROM (SELECT DISTINCT ON (sku, warehouse_id) * FROM entry ORDER BY sku, warehouse_id, sequence DESC) AS latest
     WHERE (level.sku, level.warehouse_id) = (latest.sku, latest.warehouse_id);
"""
