"""`/api/v1/alerts`: seen, taken on, silenced and closed."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from libs.chassis.database import Pool
from services.pipeline.app import create_app
from services.pipeline.jobs.execution import Execution
from services.pipeline.jobs.run import RunRequest
from services.pipeline.settings import Settings
from tests.pipeline.batch.stock import remove_stock, set_stock
from tests.pipeline.batch.test_runs import THE_DAY, claim, start
from tests.stack import Database


@pytest.fixture
async def client(settings: Settings, pool: Pool, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running API, with alerts for three items in two warehouses."""
    await remove_stock(database)
    await set_stock(database, "A", 0, reorder_point=5)
    await set_stock(database, "B", 5, reorder_point=5)
    await set_stock(database, "B", 4, warehouse_id="LYON-1", reorder_point=5)
    await check(pool, settings)
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/v1") as client,
    ):
        yield client
    await remove_stock(database)


async def check(pool: Pool, settings: Settings) -> None:
    run_id = await start(pool, RunRequest("low_stock_alerts", THE_DAY, "test"))
    await Execution(await claim(pool, run_id), pool, settings).run()


async def items(client: httpx.AsyncClient, **filters: Any) -> list[tuple[str, str, str]]:
    answer = await client.get("/alerts", params=filters)
    return sorted((item["sku"], item["warehouseId"], item["status"]) for item in answer.json()["items"])


async def test_alerts_are_filtered_and_paged(client: httpx.AsyncClient) -> None:
    assert await items(client, severity="critical") == [("A", "BERLIN-1", "open")]
    assert await items(client, warehouseId="LYON-1") == [("B", "LYON-1", "open")]
    assert await items(client, sku="A", status="resolved") == []

    first = (await client.get("/alerts", params={"limit": 2})).json()
    rest = (await client.get("/alerts", params={"limit": 2, "cursor": first["nextCursor"]})).json()
    assert [len(first["items"]), len(rest["items"]), rest["nextCursor"]] == [2, 1, None]


async def test_an_alert_is_acknowledged_snoozed_and_resolved(
    client: httpx.AsyncClient, pool: Pool, settings: Settings
) -> None:
    found = (await client.get("/alerts", params={"sku": "A"})).json()["items"][0]
    path = f"/alerts/{found['alertId']}"
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()

    taken_on = (await client.post(f"{path}/acknowledge")).json()
    snoozed = (await client.post(f"{path}/snooze", json={"until": until})).json()
    resolved = (await client.post(f"{path}/resolve")).json()

    assert (taken_on["status"], taken_on["acknowledgedBy"], taken_on["revision"]) == ("acknowledged", "anonymous", 2)
    assert (snoozed["status"], datetime.fromisoformat(snoozed["snoozedUntil"])) == (
        "snoozed",
        datetime.fromisoformat(until),
    )
    assert (resolved["status"], resolved["resolvedBy"]) == ("resolved", "anonymous")
    assert (await client.get(path)).json() == resolved
    too_late = await client.post(f"{path}/acknowledge")
    assert (too_late.status_code, too_late.json()["code"]) == (409, "invalid-transition")
    await check(pool, settings)
    assert await items(client, sku="A") == [("A", "BERLIN-1", "open"), ("A", "BERLIN-1", "resolved")]


async def test_what_makes_no_sense_is_refused(client: httpx.AsyncClient) -> None:
    found = (await client.get("/alerts")).json()["items"][0]["alertId"]
    unknown = "/alerts/00000000-0000-0000-0000-000000000000"

    past = await client.post(f"/alerts/{found}/snooze", json={"until": "2020-01-01T00:00:00Z"})

    assert (past.status_code, past.json()["code"]) == (422, "snooze-not-ahead")
    for until in ("9999-12-31T23:59:59-12:00", (datetime.now(UTC) + timedelta(days=400)).isoformat()):
        assert (await client.post(f"/alerts/{found}/snooze", json={"until": until})).status_code == 422
    assert (await client.get("/alerts")).status_code == 200
    for answer in (await client.get(unknown), await client.post(f"{unknown}/resolve")):
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
