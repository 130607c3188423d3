"""`/api/v1/datasets/{dataset}/partitions`: how fresh each date is, and which one is late."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from libs.chassis.database import Connection, Pool
from services.pipeline.app import create_app
from services.pipeline.jobs import freshness
from services.pipeline.jobs.job import find, jobs, writer_of
from services.pipeline.settings import Settings
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.pipeline.batch.test_inventory_etl import empty_outputs, run
from tests.stack import Database

NEW_YEAR = date(2026, 1, 1)
DAILY, HOURLY = find("inventory_etl"), find("transaction_aggregation")


@pytest.fixture(autouse=True)
async def _empty(database: Database) -> None:
    await ledger.empty(database)
    await empty_outputs(database)


@pytest.fixture
async def client(settings: Settings, pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running API."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/v1/datasets") as client,
    ):
        yield client


async def partitions(client: httpx.AsyncClient, dataset: str, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(f"/{dataset}/partitions", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


@pytest.mark.parametrize(
    ("success", "now", "is_late"),
    [
        (None, datetime(2026, 1, 2, 3, 59, tzinfo=UTC), False),
        (None, datetime(2026, 1, 2, 4, 1, tzinfo=UTC), True),
        (datetime(2026, 1, 1, 23, tzinfo=UTC), datetime(2026, 1, 2, 4, 1, tzinfo=UTC), True),
        (datetime(2026, 1, 2, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC), False),
    ],
)
def test_a_date_is_late_without_a_success_after_its_end(success: datetime | None, now: datetime, is_late: bool) -> None:
    assert freshness.closed_at(DAILY, NEW_YEAR) == datetime(2026, 1, 2, 2, tzinfo=UTC)
    assert freshness.is_partition_late(DAILY, NEW_YEAR, success, now) is is_late


def test_the_hour_that_ends_a_date_closes_it() -> None:
    assert freshness.closed_at(HOURLY, NEW_YEAR) == datetime(2026, 1, 2, 0, 5, tzinfo=UTC)
    assert freshness.last_closed_date(HOURLY, datetime(2026, 1, 2, 0, 5, tzinfo=UTC)) == NEW_YEAR
    assert freshness.last_closed_date(HOURLY, datetime(2026, 1, 2, 0, 4, tzinfo=UTC)) < NEW_YEAR


def test_each_dataset_has_one_writer() -> None:
    datasets = [dataset for job in jobs().values() for step in job.steps for dataset in step.datasets]

    assert len(datasets) == len(set(datasets)) == 6
    assert {writer_of(dataset)[0].id for dataset in datasets} == {"inventory_etl", "transaction_aggregation"}


async def test_each_date_tells_its_age_and_those_that_are_owed_are_late(
    pool: Pool, settings: Settings, connection: Connection, database: Database, client: httpx.AsyncClient
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(2, -3)])
    await run(pool, settings, 1, 2)

    known = await partitions(client, "daily_snapshot", dateTo="2026-01-04")
    latest = await partitions(client, "daily_snapshot", limit=1)

    assert [(each["date"], each["rows"], each["isLate"], each["quality"]) for each in known] == [
        ("2026-01-04", None, True, None),
        ("2026-01-03", None, True, None),
        ("2026-01-02", 1, False, "passed"),
        ("2026-01-01", 1, False, "passed"),
    ]
    assert known[0]["lastSuccessAt"] is known[0]["ageSeconds"] is None
    assert known[0]["deadlineAt"] == "2026-01-05T04:00:00Z"
    assert 0 <= known[-1]["ageSeconds"] < 600
    assert known[-1]["lastSuccessAt"] >= known[-1]["replacedAt"]
    assert known[-1]["runId"] == str(await connection.fetchval("SELECT run_id FROM run"))
    assert date.fromisoformat(latest[0]["date"]) == freshness.last_closed_date(DAILY, datetime.now(UTC))


async def test_the_lake_lists_what_jobs_keep(
    pool: Pool, settings: Settings, database: Database, client: httpx.AsyncClient
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(2, -3)])
    await run(pool, settings, 1, 2)

    listed = (await client.get("http://test/api/v1/lake/datasets")).json()["items"]

    assert {each["name"]: (each["rows"], each["firstDate"], each["lastDate"]) for each in listed} == {
        "batch/ledger_entries": (2, "2026-01-01", "2026-01-02"),
        "batch/item_days": (2, "2026-01-01", "2026-01-02"),
        "batch/daily_snapshot": (2, "2026-01-01", "2026-01-02"),
        "batch/daily_metric": (2, "2026-01-01", "2026-01-02"),
    }


async def test_pages_follow_each_other(
    pool: Pool, settings: Settings, database: Database, client: httpx.AsyncClient
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE")])
    await run(pool, settings, 1, 1)

    first = (await client.get("/item_days/partitions", params={"limit": 2, "dateTo": "2026-01-03"})).json()
    [last] = await partitions(client, "item_days", limit=2, dateTo="2026-01-03", cursor=first["nextCursor"])

    dates = [date.fromisoformat(each["date"]) for each in (*first["items"], last)]
    assert dates == [NEW_YEAR + timedelta(days=days) for days in (2, 1, 0)]


async def test_before_the_first_run_nothing_is_owed(client: httpx.AsyncClient) -> None:
    assert await partitions(client, "lake.movement_aggregate") == []
    assert (await client.get("/moon/partitions")).status_code == 404
