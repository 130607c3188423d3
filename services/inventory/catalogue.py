"""Creates, revises and archives products, categories and warehouses."""

from collections.abc import Mapping
from typing import Any

import asyncpg
from sqlalchemy import Table

from libs.chassis import etag
from libs.chassis.database import Connection
from libs.chassis.problems import Problem
from services.inventory import tables
from services.inventory.queries import catalogue, levels
from services.inventory.refusal import AlreadyExists, Archived, CategoryCircle, StillInUse
from services.inventory.stock import StockLevel


async def create(
    connection: Connection, table: Table, values: Mapping[str, Any], request_hash: bytes
) -> tuple[asyncpg.Record, bool]:
    """The row, and whether it was created before by the same request.

    Raises AlreadyExists for another request, and Archived.
    """
    if (created := await catalogue.create(connection, table, values, request_hash)) is not None:
        await _check_category(connection, table, values)
        return created, False
    key = values[next(iter(table.primary_key)).name]
    row = await find(connection, table, key)
    if row["request_hash"] != request_hash:
        raise AlreadyExists(f"There is a {table.name} {key} already, created by another request")
    return row, True


async def find(connection: Connection, table: Table, key: str) -> asyncpg.Record:
    """The row of this key; a `Problem` 404 without one."""
    row = await catalogue.find(connection, table, key)
    if row is None:
        raise _not_found(table, key)
    return row


async def revise(
    connection: Connection, table: Table, key: str, changes: Mapping[str, Any], if_match: str
) -> asyncpg.Record:
    """The row with these changes and the next version. Problems: 404, and 412 unless `if_match` names its version.

    Raises Archived.
    """
    row = await _lock(connection, table, key)
    etag.check(if_match, row["version"])
    if not changes:
        return row
    revised = await catalogue.revise(connection, table, key, changes)
    await _check_category(connection, table, {name: new for name, new in changes.items() if new != row[name]})
    return revised


async def move_category(
    connection: Connection, category_id: str, changes: Mapping[str, Any], if_match: str
) -> asyncpg.Record:
    """As `revise`, with another parent. Raises CategoryCircle when the new parent lies below the category."""
    await catalogue.lock_category_tree(connection)
    parent_id = changes["parent_id"]
    if parent_id is not None and category_id in await catalogue.category_path(connection, parent_id):
        raise CategoryCircle(f"{parent_id} lies below {category_id}")
    return await revise(connection, tables.category, category_id, changes, if_match)


async def archive_product(connection: Connection, sku: str) -> asyncpg.Record:
    """The archived product. Raises StillInUse while a warehouse holds units of it."""
    row = await _lock(connection, tables.product, sku)
    _check_empty(await levels.lock_of_sku(connection, sku))
    return await _archive(connection, tables.product, row)


async def archive_warehouse(connection: Connection, warehouse_id: str) -> asyncpg.Record:
    """The archived warehouse. Raises StillInUse while it holds units."""
    row = await _lock(connection, tables.warehouse, warehouse_id)
    _check_empty(await levels.lock_of_warehouse(connection, warehouse_id))
    return await _archive(connection, tables.warehouse, row)


async def archive_category(connection: Connection, category_id: str) -> asyncpg.Record:
    """The archived category. Raises StillInUse while active products or categories belong to it."""
    row = await _lock(connection, tables.category, category_id)
    category, product = tables.category.c, tables.product.c
    if await catalogue.in_use(connection, category.parent_id, category_id, category.status):
        raise StillInUse(f"Category {category_id} has active categories below it")
    if await catalogue.in_use(connection, product.category_id, category_id, product.status):
        raise StillInUse(f"Category {category_id} has active products")
    return await _archive(connection, tables.category, row)


async def _lock(connection: Connection, table: Table, key: str) -> asyncpg.Record:
    row = await catalogue.lock(connection, table, key)
    if row is None:
        raise _not_found(table, key)
    return row


async def _check_category(connection: Connection, table: Table, values: Mapping[str, Any]) -> None:
    """Refuse an archived category, to which a row was written just now: until commit it cannot be archived any more."""
    category_id = values.get("parent_id" if table is tables.category else "category_id")
    if category_id is not None and await catalogue.archived_categories(connection, [category_id]):
        raise Archived(f"Category {category_id} is archived")


async def _archive(connection: Connection, table: Table, row: asyncpg.Record) -> asyncpg.Record:
    if row["status"] == "archived":
        return row
    return await catalogue.revise(connection, table, row[next(iter(table.primary_key)).name], {"status": "archived"})


def _check_empty(stock_levels: list[StockLevel]) -> None:
    for level in stock_levels:
        if level.quantity_on_hand:
            raise StillInUse(f"{level.item}: {level.quantity_on_hand} on hand")


def _not_found(table: Table, key: str) -> Problem:
    return Problem(404, "not-found", f"There is no {table.name} {key}.")
