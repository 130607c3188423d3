"""Movements keep the category, the names and the warehouse that they had."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from libs.chassis.database import Connection
from services.pipeline import dimension_queries
from tests.factories import an_inventory_update
from tests.pipeline.test_stream import apply
from tests.stack import Database

JANUARY, FEBRUARY, MARCH = (datetime(2026, month, 10, 12, tzinfo=UTC) for month in (1, 2, 3))


@pytest.fixture
async def inventory(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The inventory service: LAPTOP-001 is hardware, and lies in Berlin."""
    connection = await asyncpg.connect(database.url("inventory"))
    await connection.execute(
        """
        INSERT INTO category (category_id, name, request_hash) VALUES ('HW', 'Hardware', ''), ('USED', 'Used', '');
        INSERT INTO product (sku, name, category_id, attributes, request_hash, updated_at)
        VALUES ('LAPTOP-001', 'A laptop', 'HW', '{}', '', '2026-01-01Z');
        INSERT INTO warehouse (warehouse_id, name, request_hash) VALUES ('BERLIN-1', 'Berlin', '');
        """
    )
    yield connection
    await connection.close()
    owner = await asyncpg.connect(database.superuser_url)
    await owner.execute(
        "DELETE FROM inventory.product; DELETE FROM inventory.category; DELETE FROM inventory.warehouse"
    )
    await owner.close()


async def refresh(connection: Connection) -> int:
    async with connection.transaction():
        return await dimension_queries.refresh(connection)


async def move_to(inventory: asyncpg.Connection, category_id: str | None, at: datetime) -> None:
    await inventory.execute("UPDATE product SET category_id = $1, updated_at = $2", category_id, at)


async def movements(connection: Connection, view: str, bucket: str) -> list[tuple[Any, ...]]:
    columns = "sku, category_id, category_name, product_name, warehouse_name"
    return [tuple(row) for row in await connection.fetch(f"SELECT {columns} FROM {view} ORDER BY {bucket}")]


@pytest.mark.parametrize(("view", "bucket"), [("daily_movements_v1", "date"), ("hourly_movements_v1", "hour")])
async def test_movements_before_a_change_keep_their_category(
    inventory: asyncpg.Connection, connection: Connection, view: str, bucket: str
) -> None:
    await refresh(connection)
    await apply(connection, *(an_inventory_update(sequence=n, timestamp=at) for n, at in ((1, JANUARY), (2, MARCH))))

    await move_to(inventory, "USED", FEBRUARY)
    await refresh(connection)

    laptop = ("A laptop", "Berlin")
    assert await movements(connection, f"enriched_{view}", bucket) == [
        ("LAPTOP-001", "HW", "Hardware", *laptop),
        ("LAPTOP-001", "USED", "Used", *laptop),
    ]


async def test_a_late_movement_gets_the_category_of_its_time(
    inventory: asyncpg.Connection, connection: Connection
) -> None:
    await refresh(connection)
    await move_to(inventory, "USED", FEBRUARY)
    await refresh(connection)

    await apply(connection, an_inventory_update(sequence=1, timestamp=JANUARY))

    ((_, category_id, *_),) = await movements(connection, "enriched_daily_movements_v1", "date")
    assert category_id == "HW"


async def test_what_nobody_knows_is_null_and_no_movement_is_left_out(connection: Connection) -> None:
    await refresh(connection)
    await apply(connection, an_inventory_update("UNKNOWN"))

    assert await movements(connection, "enriched_daily_movements_v1", "date") == [("UNKNOWN", None, None, None, None)]


async def test_versions_follow_each_other_without_gap_and_only_after_changes(
    inventory: asyncpg.Connection, connection: Connection
) -> None:
    begun = [await refresh(connection), await refresh(connection)]
    for category_id, at in (("USED", FEBRUARY), ("HW", FEBRUARY), (None, MARCH)):
        await move_to(inventory, category_id, at)
        begun.append(await refresh(connection))

    versions = await connection.fetch("SELECT * FROM product_version ORDER BY valid_from")
    assert begun == [4, 0, 1, 1, 1]
    assert [version["category_id"] for version in versions] == ["HW", "USED", "HW", None]
    assert [version["valid_to"] for version in versions[:-1]] == [version["valid_from"] for version in versions[1:]]
