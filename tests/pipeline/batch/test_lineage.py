"""What an OpenLineage endpoint is told of runs that ended by themselves, or were ended."""

import asyncio
import json
from pathlib import Path
from typing import Any

from libs.chassis.database import Connection, Pool
from services.pipeline.jobs import run_queries, runs
from services.pipeline.jobs.execution import Execution
from services.pipeline.jobs.lost import end_lost
from services.pipeline.jobs.run import Claim, RunRequest, RunStatus
from services.pipeline.jobs.worker import Worker
from services.pipeline.settings import Settings
from tests.pipeline.batch.test_runs import THE_DAY, claim, executed, never_ends, run_row, start

STEP = "extract_inventory_data"
ABORTED = ("ABORT", f"inventory_etl.{STEP}")


def telling(settings: Settings, to: Path) -> Settings:
    return settings.model_copy(update={"openlineage_url": str(to)})


def events(told: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.read_text().splitlines()]


async def a_run_within_its_step(pool: Pool, connection: Connection) -> Claim:
    claimed = await claim(pool, await start(pool))
    await run_queries.begin_step(connection, claimed.run_id, STEP, claimed.attempt)
    return claimed


async def test_a_step_that_is_cancelled_is_told_as_aborted(pool: Pool, settings: Settings, tmp_path: Path) -> None:
    told = tmp_path / "lineage.jsonl"
    settings = telling(settings, told).model_copy(update={"batch_heartbeat_seconds": 0.05})
    run_id = await start(pool)
    going_on = asyncio.create_task(executed(pool, settings, run_id, extract_inventory_data=never_ends))
    async with asyncio.timeout(30):
        while not told.exists():
            await asyncio.sleep(0.02)
    async with pool.acquire() as connection, connection.transaction():
        await runs.cancel(connection, run_id, "test")  # type: ignore[arg-type]

    assert await going_on is RunStatus.CANCELLED
    assert [event["eventType"] for event in events(told)] == ["START", "ABORT"]


async def test_a_step_whose_process_was_killed_is_told_as_aborted(
    pool: Pool, settings: Settings, connection: Connection, tmp_path: Path
) -> None:
    told = tmp_path / "lineage.jsonl"
    claimed = await a_run_within_its_step(pool, connection)

    await Worker(telling(settings, told), pool)._end(claimed, RunStatus.FAILED, "the process was killed by SIGKILL")

    [event] = events(told)
    assert (event["eventType"], event["job"]["name"]) == ABORTED
    assert event["run"]["facets"]["errorMessage"]["message"] == "the process was killed by SIGKILL"


async def test_a_step_whose_process_is_silent_is_told_as_aborted_once(
    pool: Pool, settings: Settings, connection: Connection, tmp_path: Path
) -> None:
    told = tmp_path / "lineage.jsonl"
    claimed = await a_run_within_its_step(pool, connection)
    await connection.execute(
        "UPDATE run SET heartbeat_at = now() - interval '1 hour' WHERE run_id = $1", claimed.run_id
    )

    assert [await end_lost(pool, telling(settings, told)) for _ in range(2)] == [1, 0]

    [event] = events(told)
    assert (event["eventType"], event["job"]["name"]) == ABORTED
    assert event["run"]["facets"]["errorMessage"]["message"] == runs.LOST
    assert (await run_row(connection, claimed.run_id))["status"] == RunStatus.FAILED


async def test_alerts_tell_what_they_are_made_of_and_where_they_go(
    pool: Pool, settings: Settings, tmp_path: Path
) -> None:
    told = tmp_path / "lineage.jsonl"

    run_id = await start(pool, RunRequest("low_stock_alerts", THE_DAY, "test"))
    assert await Execution(await claim(pool, run_id), pool, telling(settings, told)).run() is RunStatus.SUCCEEDED

    ends = {event["job"]["name"]: event for event in events(told) if event["eventType"] == "COMPLETE"}
    check, send = ends["low_stock_alerts.check_low_stock"], ends["low_stock_alerts.send_notifications"]
    assert [data["name"] for data in check["inputs"]] == ["inventory.stock_levels_v1", "pipeline.stock_metrics_v1"]
    assert [data["name"] for data in check["outputs"]] == ["pipeline.alert"]
    assert [data["name"] for data in send["outputs"]] == ["pipeline.alert", "pipeline.mail", "analytics-events"]
