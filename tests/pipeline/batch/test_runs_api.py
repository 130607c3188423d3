"""`/api/v1/runs`: the API starts and follows, the batch process executes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from libs.chassis.database import Connection, Pool
from services.pipeline.app import create_app
from services.pipeline.jobs import runs
from services.pipeline.settings import Settings
from tests.pipeline.batch.test_runs import executed, fails

BODY = {"job": "inventory_etl", "intervalStart": "2026-01-05T02:00:00Z", "intervalEnd": "2026-01-06T02:00:00Z"}


@pytest.fixture
async def client(settings: Settings, pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running API."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/v1") as client,
    ):
        yield client


async def post(client: httpx.AsyncClient, key: str | None = None, **changes: Any) -> httpx.Response:
    return await client.post("/runs", json=BODY | changes, headers={"Idempotency-Key": key} if key else {})


async def test_a_run_is_queued_and_the_same_key_finds_it_again(client: httpx.AsyncClient) -> None:
    first = await post(client, "k")
    again = await post(client, "k")
    attached = await post(client)

    assert (first.status_code, again.status_code, attached.status_code) == (202, 200, 200)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.json()["runId"] == again.json()["runId"] == attached.json()["runId"]
    assert first.headers["Location"] == f"/api/v1/runs/{first.json()['runId']}"
    assert first.json()["status"] == "queued"
    assert [step["status"] for step in first.json()["steps"]] == ["queued"] * 4


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"job": "nightly"}, "unknown-job"),
        ({"steps": ["fly"]}, "unknown-job"),
        ({"intervalEnd": BODY["intervalStart"]}, "validation-failed"),
        ({"intervalEnd": "2026-01-06"}, "validation-failed"),
        ({"intervalEnd": "2126-01-06T02:00:00Z"}, "interval-not-over"),
        ({"intervalStart": "0001-01-01T00:00:00Z"}, "interval-too-early"),
        ({"intervalEnd": "9999-12-31T23:59:59-12:00"}, "interval-not-over"),
        ({"steps": []}, "validation-failed"),
        ({"warehouseId": " "}, "validation-failed"),
        ({"warehouseId": "X", "job": "weekly_summary"}, "not-by-warehouse"),
    ],
)
async def test_what_makes_no_sense_is_refused(client: httpx.AsyncClient, changes: dict[str, Any], code: str) -> None:
    answer = await post(client, **changes)

    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_a_key_of_another_request_and_overlapping_work_are_refused(client: httpx.AsyncClient) -> None:
    await post(client, "k", steps=["extract_inventory_data"])

    reused = await post(client, "k")
    overlapping = await post(client)

    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency-key-reused")
    assert (overlapping.status_code, overlapping.json()["code"]) == (409, "run-in-progress")


async def test_a_long_poll_answers_when_the_run_is_over(
    client: httpx.AsyncClient, pool: Pool, settings: Settings
) -> None:
    run_id = (await post(client)).json()["runId"]

    waiting = asyncio.create_task(client.get(f"/runs/{run_id}", params={"waitSeconds": 30}, timeout=40))
    await executed(pool, settings, run_id)

    answer = (await waiting).json()
    assert answer["status"] == "succeeded"
    assert answer["startedAt"] < answer["finishedAt"]


async def test_a_failed_run_is_explained_logged_and_retried(
    client: httpx.AsyncClient, pool: Pool, settings: Settings
) -> None:
    run_id = (await post(client)).json()["runId"]
    too_early = await client.post(f"/runs/{run_id}/retry")
    await executed(pool, settings, run_id, extract_inventory_data=fails)

    failed = (await client.get(f"/runs/{run_id}")).json()
    logs = (await client.get(f"/runs/{run_id}/logs", params={"limit": 2})).json()
    retried = await client.post(f"/runs/{run_id}/retry")

    assert (too_early.status_code, too_early.json()["code"]) == (409, "invalid-transition")
    assert "no such luck" in failed["error"]
    assert [step["status"] for step in failed["steps"]] == ["failed", "skipped", "skipped", "skipped"]
    assert [line["event"] for line in logs["items"]] == ["run.started", "step.started"]
    assert logs["nextCursor"] is not None
    assert (retried.status_code, retried.json()["status"]) == (202, "queued")


async def test_a_run_is_cancelled(client: httpx.AsyncClient) -> None:
    run_id = (await post(client)).json()["runId"]

    cancelled = await client.post(f"/runs/{run_id}/cancel")
    again = await client.post(f"/runs/{run_id}/cancel")

    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    assert again.status_code == 409


async def test_runs_are_filtered_and_paged(client: httpx.AsyncClient, connection: Connection) -> None:
    made = [
        (await post(client, intervalStart=f"2026-01-0{day}T02:00:00Z", intervalEnd=f"2026-01-0{day + 1}T02:00:00Z"))
        for day in (1, 2, 3)
    ]
    ids = [answer.json()["runId"] for answer in made]
    async with connection.transaction():
        await runs.cancel(connection, ids[0], "me")

    first = (await client.get("/runs", params={"limit": 2})).json()
    rest = (await client.get("/runs", params={"limit": 2, "cursor": first["nextCursor"]})).json()
    queued = (await client.get("/runs", params={"status": "queued", "intervalFrom": "2026-01-03T02:00:00Z"})).json()

    assert [item["runId"] for item in (*first["items"], *rest["items"])] == ids[::-1]
    assert [item["runId"] for item in queued["items"]] == [ids[2]]
    assert (await client.get("/runs", params={"job": "lake_maintenance"})).json()["items"] == []


async def test_unknown_runs_are_not_found(client: httpx.AsyncClient) -> None:
    unknown = "/runs/00000000-0000-0000-0000-000000000000"

    for answer in (
        await client.get(unknown),
        await client.get(f"{unknown}/logs"),
        await client.post(f"{unknown}/retry"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


async def test_jobs_are_listed_with_their_steps(client: httpx.AsyncClient) -> None:
    jobs = {job["id"]: job for job in (await client.get("/jobs")).json()["items"]}

    assert {"inventory_etl", "transaction_aggregation", "lake_maintenance"} <= set(jobs)
    assert {step["name"]: step["after"] for step in jobs["inventory_etl"]["steps"]} == {
        "extract_inventory_data": [],
        "transform_and_load": ["extract_inventory_data"],
        "generate_aggregated_metrics": ["transform_and_load"],
        "data_quality_check": ["extract_inventory_data"],
    }


RANGE = {"job": "inventory_etl", "rangeStart": "2026-01-05T02:00:00Z", "rangeEnd": "2026-01-08T02:00:00Z"}


async def test_a_backfill_queues_a_run_for_each_interval_that_is_missing(
    client: httpx.AsyncClient, pool: Pool, settings: Settings
) -> None:
    done = (await post(client)).json()["runId"]
    await executed(pool, settings, done)

    planned = await client.post("/backfills", json=RANGE | {"dryRun": True})
    started = await client.post("/backfills", json=RANGE)
    again = await client.post("/backfills", json=RANGE)
    everything = await client.post("/backfills", json=RANGE | {"which": "all"})

    assert [answer.status_code for answer in (planned, started, again, everything)] == [200, 202, 202, 202]
    assert [each["intervalStart"][8:10] for each in planned.json()["intervals"]] == ["06", "07"]
    assert [each["runId"] for each in planned.json()["intervals"]] == [None, None]
    queued = [each["runId"] for each in started.json()["intervals"]]
    assert len(queued) == 2
    assert again.json() == started.json()
    assert [each["runId"] for each in everything.json()["intervals"]][1:] == queued
    assert {run["runId"] for run in (await client.get("/runs?status=queued")).json()["items"]} >= set(queued)


async def test_the_same_key_is_answered_with_the_same_runs_of_a_backfill(
    client: httpx.AsyncClient, pool: Pool, settings: Settings
) -> None:
    key = {"Idempotency-Key": "k"}
    first = await client.post("/backfills", json=RANGE, headers=key)
    await executed(pool, settings, first.json()["intervals"][0]["runId"])

    again = await client.post("/backfills", json=RANGE, headers=key)
    reused = await client.post("/backfills", json=RANGE | {"which": "all"}, headers=key)
    of_a_run = await post(client, "k")

    assert (first.status_code, again.status_code) == (202, 200)
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
    for answer in (reused, of_a_run):
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")


@pytest.mark.parametrize("which", ["missing", "all"])
async def test_a_backfill_leaves_alone_what_goes_on_in_part_or_in_another_way(
    client: httpx.AsyncClient, which: str
) -> None:
    part = (await post(client, steps=["extract_inventory_data"])).json()["runId"]
    full = (
        await post(client, intervalStart=BODY["intervalEnd"], intervalEnd="2026-01-07T02:00:00Z", full=True)
    ).json()["runId"]

    filled = await client.post("/backfills", json=RANGE | {"which": which})

    assert [each["runId"] for each in filled.json()["intervals"]][:2] == [part, full]
    assert len((await client.get("/runs")).json()["items"]) == 3


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"job": "nightly"}, "unknown-job"),
        ({"job": "transaction_aggregation", "rangeEnd": "2026-02-05T02:00:00Z"}, "too-many-intervals"),
        ({"rangeEnd": RANGE["rangeStart"]}, "validation-failed"),
        ({"rangeStart": "1969-01-01T00:00:00Z"}, "validation-failed"),
        ({"rangeStart": "2126-01-01T00:00:00Z", "rangeEnd": "2126-01-04T00:00:00Z"}, "interval-not-over"),
        ({"which": "some"}, "validation-failed"),
        ({"job": "weekly_summary", "rangeEnd": "2026-03-01T00:00:00Z", "warehouseId": "X"}, "not-by-warehouse"),
    ],
)
async def test_a_backfill_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, changes: dict[str, Any], code: str
) -> None:
    answer = await client.post("/backfills", json=RANGE | changes)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
