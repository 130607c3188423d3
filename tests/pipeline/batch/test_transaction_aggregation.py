"""`transaction_aggregation` on real servers."""

from datetime import UTC, datetime
from typing import Any

import pytest

from libs.chassis.database import Connection, Pool
from services.pipeline.jobs.execution import Execution
from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.run import RunRequest, RunStatus
from services.pipeline.settings import Settings
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.pipeline.batch.test_inventory_etl import empty_outputs
from tests.pipeline.batch.test_runs import claim, start
from tests.stack import Database


@pytest.fixture(autouse=True)
async def _empty(database: Database) -> None:
    await ledger.empty(database)
    await empty_outputs(database)


async def run(pool: Pool, settings: Settings, hour: int, *, full: bool = False) -> RunStatus:
    interval = Interval(datetime(2026, 1, 6, hour, 5, tzinfo=UTC), datetime(2026, 1, 6, hour + 1, 5, tzinfo=UTC))
    parameters = {"full": True} if full else {}
    run_id = await start(pool, RunRequest("transaction_aggregation", interval, "test", parameters=parameters))
    return await Execution(await claim(pool, run_id), pool, settings).run()


async def test_movements_are_summed_by_hour_day_and_week_and_late_ones_added(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    # The 4th is a Sunday, the 5th a Monday.
    moves = [on(4, 9, "OPENING_BALANCE"), on(4, -1), on(5, -2), on(6, 1, "RETURN"), on(6, 4, "RECEIPT", "B")]
    await ledger.post(database, moves)

    assert await run(pool, settings, 10) is RunStatus.SUCCEEDED

    async def sums(**facts: str) -> list[tuple[Any, ...]]:
        found = await connection.fetch(
            """
            SELECT bucket_start, movements, units_in, units_out, demand FROM movement_aggregates_v1
             WHERE grain = $1 AND dimension = $2 AND key = $3 ORDER BY bucket_start
            """,
            *facts.values(),
        )
        return [(row["bucket_start"].strftime("%d %H"), *tuple(row)[1:]) for row in found]

    assert await sums(grain="hour", dimension="sku", key="A") == [
        ("04 10", 1, 0, 1, 1),
        ("05 10", 1, 0, 2, 2),
        ("06 10", 1, 1, 0, -1),
    ]
    assert await sums(grain="day", dimension="warehouse", key="X") == [
        ("04 00", 1, 0, 1, 1),
        ("05 00", 1, 0, 2, 2),
        ("06 00", 2, 5, 0, -1),
    ]
    assert await sums(grain="week", dimension="category", key="toys") == [("29 00", 1, 0, 1, 1), ("05 00", 2, 1, 2, 1)]
    assert await sums(grain="week", dimension="category", key="") == [("05 00", 1, 4, 0, 0)]

    await ledger.post(database, [on(4, -1)])
    await run(pool, settings, 11)
    assert await sums(grain="week", dimension="category", key="toys") == [("29 00", 2, 0, 2, 2), ("05 00", 2, 1, 2, 1)]

    incremental = await connection.fetch("SELECT * FROM movement_aggregate ORDER BY 1, 2, 3, 4, 5")
    await empty_outputs(database)
    await run(pool, settings, 11, full=True)
    assert await connection.fetch("SELECT * FROM movement_aggregate ORDER BY 1, 2, 3, 4, 5") == incremental


async def test_a_run_replaces_the_dates_and_the_week_of_its_hour_whatever_they_hold(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(4, 9, "OPENING_BALANCE"), on(5, -2), on(6, -1)])
    await run(pool, settings, 10)
    right = await connection.fetch("SELECT * FROM movement_aggregate ORDER BY 1, 2, 3, 4, 5")
    # Of the 6th and of its week, which lies in the partition of Monday the 5th.
    await connection.execute("DELETE FROM movement_aggregate WHERE date >= '2026-01-05'")

    await run(pool, settings, 10)

    assert await connection.fetch("SELECT * FROM movement_aggregate ORDER BY 1, 2, 3, 4, 5") == right


async def test_a_week_that_holds_a_failed_date_is_not_published(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(4, 9, "OPENING_BALANCE"), on(5, -2), on(6, 4, "SALE")])

    await run(pool, settings, 10)

    published = await connection.fetch(
        "SELECT grain, date FROM movement_aggregates_v1 WHERE dimension = 'sku' ORDER BY date, grain"
    )
    assert [(row["grain"], row["date"].day) for row in published] == [("day", 5), ("hour", 5)]
