"""Products, categories and warehouses, which live alike: created, revised, archived, never deleted."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import asyncpg
from sqlalchemy import ColumnElement, Table, func, select, update
from sqlalchemy.dialects.postgresql import insert

from libs.chassis.database import Connection, fetch_all, fetch_one


async def create(
    connection: Connection, table: Table, values: Mapping[str, Any], request_hash: bytes
) -> asyncpg.Record | None:
    """The new row, or None when the key is taken."""
    row = insert(table).values(**values, request_hash=request_hash).on_conflict_do_nothing(index_elements=[_key(table)])
    return await fetch_one(connection, row.returning(*table.c))


async def find(connection: Connection, table: Table, key: str) -> asyncpg.Record | None:
    """The row of this key."""
    return await fetch_one(connection, select(*table.c).where(_key(table) == key))


async def lock(connection: Connection, table: Table, key: str) -> asyncpg.Record | None:
    """The row of this key, locked even against new rows that refer to it."""
    return await fetch_one(connection, select(*table.c).where(_key(table) == key).with_for_update())


async def revise(connection: Connection, table: Table, key: str, changes: Mapping[str, Any]) -> asyncpg.Record:
    """The row, which is locked, with these changes and the next version."""
    revised = (
        update(table)
        .where(_key(table) == key)
        .values(**changes, version=table.c.version + 1, updated_at=func.clock_timestamp())
        .returning(*table.c)
    )
    row = await fetch_one(connection, revised)
    assert row is not None, "the row was locked before"
    return row


async def known_categories(connection: Connection, category_ids: Collection[str]) -> set[str]:
    """Those of the categories that exist."""
    rows = await connection.fetch(
        "SELECT category_id FROM category WHERE category_id = ANY($1::text[])", list(category_ids)
    )
    return {row["category_id"] for row in rows}


async def archived_categories(connection: Connection, category_ids: Collection[str]) -> set[str]:
    """Those of the categories that are archived."""
    rows = await connection.fetch(
        "SELECT category_id FROM category WHERE category_id = ANY($1::text[]) AND status = 'archived'",
        list(category_ids),
    )
    return {row["category_id"] for row in rows}


async def create_products(
    connection: Connection, products: Sequence[Mapping[str, Any]], hashes: Sequence[bytes]
) -> set[str]:
    """Create the products whose sku is free; the skus of those created."""
    rows = await connection.fetch(
        """
        INSERT INTO product (sku, name, description, category_id, unit_of_measure, unit_cost, unit_price,
                             shelf_life_days, request_hash, attributes)
        SELECT *, '{}'
          FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::numeric[],
                      $8::integer[], $9::bytea[])
        ON CONFLICT (sku) DO NOTHING
        RETURNING sku
        """,
        *([product[name] for product in products] for name in _IMPORTED),
        hashes,
    )
    return {row["sku"] for row in rows}


async def product_hashes(connection: Connection, skus: Collection[str]) -> dict[str, bytes]:
    """The hash of the request that created each of these products."""
    rows = await connection.fetch("SELECT sku, request_hash FROM product WHERE sku = ANY($1::text[])", list(skus))
    return {row["sku"]: row["request_hash"] for row in rows}


async def category_path(connection: Connection, category_id: str) -> list[str]:
    """Category ids from the root to this one, both included; empty when there is no such category."""
    rows = await connection.fetch(
        """
        WITH RECURSIVE above AS (
            SELECT category_id, parent_id, 1 AS height FROM category WHERE category_id = $1
            UNION ALL
            SELECT parent.category_id, parent.parent_id, height + 1
              FROM above JOIN category AS parent ON parent.category_id = above.parent_id
        )
        SELECT category_id FROM above ORDER BY height DESC
        """,
        category_id,
    )
    return [row["category_id"] for row in rows]


async def lock_category_tree(connection: Connection) -> None:
    """Wait for anyone else who moves a category: two moves at a time could close a circle."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('inventory.category.tree'))")


async def in_use(connection: Connection, column: ColumnElement[Any], key: str, status: ColumnElement[Any]) -> bool:
    """Whether an active row refers to this key."""
    return bool(await fetch_all(connection, select(1).where(column == key, status == "active").limit(1)))


_IMPORTED = (
    "sku",
    "name",
    "description",
    "category_id",
    "unit_of_measure",
    "unit_cost",
    "unit_price",
    "shelf_life_days",
)


def _key(table: Table) -> ColumnElement[Any]:
    return next(iter(table.primary_key))
