"""Days keep the categories, names and costs that they had, however often and from whatever they are calculated."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from libs.chassis.database import Connection, Pool
from services.pipeline.settings import Settings
from tests.pipeline.batch import ledger, test_inventory_etl, test_transaction_aggregation
from tests.pipeline.batch.ledger import on
from tests.pipeline.batch.test_inventory_etl import empty_outputs
from tests.stack import Database

NIGHT, MORNING = (datetime(2026, 1, 6, hour, 30, tzinfo=UTC) for hour in (0, 9))


@pytest.fixture(autouse=True)
async def _a_toy_is_sold(database: Database) -> None:
    """On the 5th, at 10 o'clock."""
    await ledger.empty(database)
    await empty_outputs(database)
    await ledger.post(database, [on(5, 9, "RECEIPT"), on(5, -1)])


async def stored(connection: Connection, table: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4, 5")]


@pytest.mark.parametrize("changed_at", [NIGHT, pytest.param(MORNING, marks=pytest.mark.slow)])
@pytest.mark.slow
async def test_snapshots_keep_the_category_of_the_end_of_their_day(
    changed_at: datetime, pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    async def run(last: int, *, full: bool = False) -> None:
        await test_inventory_etl.run(pool, settings, 5, last, full=full)

    await run(5)
    await ledger.recategorize(database, "A", "games", changed_at)
    await ledger.post(database, [on(6, -1), on(7, -1)])
    await run(7)
    await ledger.post(database, [on(5, -1)])
    await run(7)
    incremental = await stored(connection, "daily_snapshot")
    await run(7, full=True)

    categories = await connection.fetch("SELECT category_id, category_name FROM daily_snapshot ORDER BY date")
    assert list(map(tuple, categories)) == [("toys", "Toys"), ("games", "games"), ("games", "games")]
    assert incremental == await stored(connection, "daily_snapshot")


async def test_sums_keep_the_category_of_their_hour(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    async def run(hour: int, *, full: bool = False) -> None:
        await test_transaction_aggregation.run(pool, settings, hour, full=full)

    async def days(category_id: str) -> Sequence[int]:
        rows = await connection.fetch(
            """
            SELECT bucket_start FROM movement_aggregates_v1
             WHERE (grain, dimension, key) = ('day', 'category', $1) ORDER BY bucket_start
            """,
            category_id,
        )
        return [row["bucket_start"].day for row in rows]

    await run(8)
    await ledger.recategorize(database, "A", "games", MORNING)
    await ledger.post(database, [on(5, -1), on(6, -1), on(7, -1)])
    await run(9)
    incremental = await stored(connection, "movement_aggregate")
    await empty_outputs(database)
    await run(9, full=True)

    assert [await days("toys"), await days("games")] == [[5], [6, 7]]
    assert incremental == await stored(connection, "movement_aggregate")
