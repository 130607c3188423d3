"""A key that is restricted to warehouses starts, sees and ends the runs of these alone."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.chassis.auth import file_entry, new_key
from libs.chassis.database import Connection, Pool
from services.pipeline.app import create_app
from services.pipeline.settings import Settings
from tests.pipeline.batch.test_runs import a_request, run_row, start
from tests.pipeline.batch.test_runs_api import BODY, RANGE

HOME, ELSEWHERE = "BERLIN-1", "PARIS-1"


@pytest.fixture
async def clerk(settings: Settings, pool: Pool, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose key may act on BERLIN-1 only."""
    token, key = new_key("clerk", ["*"], [HOME])
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([file_entry(key)]))
    app = create_app(settings.model_copy(update={"auth_mode": "api-key", "api_keys_file": keys}))
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/v1", headers=headers) as client,
    ):
        yield client


@pytest.mark.parametrize("warehouse_id", [None, ELSEWHERE])
@pytest.mark.parametrize(
    ("path", "body"), [("/runs", BODY), ("/backfills", RANGE), ("/backfills", RANGE | {"dryRun": True})]
)
async def test_runs_of_others_are_not_started(
    clerk: httpx.AsyncClient, connection: Connection, path: str, body: dict[str, Any], warehouse_id: str | None
) -> None:
    answer = await clerk.post(path, json=body | {"warehouseId": warehouse_id})

    assert (answer.status_code, answer.json()["code"]) == (403, "warehouse-forbidden")
    assert await connection.fetchval("SELECT count(*) FROM run") == 0


@pytest.mark.parametrize("path", ["/reports", "/datasets/daily_snapshot/partitions", "/lake/datasets"])
async def test_what_is_about_all_warehouses_is_not_shown(clerk: httpx.AsyncClient, path: str) -> None:
    answer = await clerk.get(path)

    assert (answer.status_code, answer.json()["code"]) == (403, "warehouse-forbidden")


@pytest.mark.parametrize("warehouse_id", [None, ELSEWHERE])
@pytest.mark.parametrize(("method", "part"), [("GET", ""), ("GET", "/logs"), ("POST", "/retry"), ("POST", "/cancel")])
async def test_runs_of_others_are_out_of_reach(
    clerk: httpx.AsyncClient, pool: Pool, connection: Connection, method: str, part: str, warehouse_id: str | None
) -> None:
    run_id = await start(pool, a_request(warehouse_id=warehouse_id))

    answer = await clerk.request(method, f"/runs/{run_id}{part}")

    assert (answer.status_code, answer.json()["code"]) == (403, "warehouse-forbidden")
    assert (await run_row(connection, run_id))["status"] == "queued"


async def test_runs_of_the_own_warehouse_are_started_listed_and_ended(clerk: httpx.AsyncClient, pool: Pool) -> None:
    await start(pool)
    await start(pool, a_request(warehouse_id=ELSEWHERE))

    started = await clerk.post("/runs", json=BODY | {"warehouseId": HOME})
    run_id = started.json()["runId"]
    listed = (await clerk.get("/runs")).json()["items"]
    cancelled = await clerk.post(f"/runs/{run_id}/cancel")

    assert (started.status_code, cancelled.status_code) == (202, 202)
    assert [item["runId"] for item in listed] == [run_id]
