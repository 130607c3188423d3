"""The `batch` process: executes what is queued, and tells at once when a run's process dies."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libs.chassis.database import Connection, Pool
from services.pipeline.jobs import runs, worker
from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.run import RunRequest, RunStatus
from services.pipeline.jobs.worker import Worker
from services.pipeline.settings import Settings
from tests.pipeline.batch.test_kills import INTERVAL, environment
from tests.pipeline.batch.test_runs import claim, run_row, start
from tests.stack import ROOT


async def test_a_process_that_goes_on_after_its_run_has_ended_is_killed(
    pool: Pool, settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "GRACE_SECONDS", 0.1)
    its_worker = Worker(settings.model_copy(update={"batch_heartbeat_seconds": 0.05}), pool)
    claimed = await claim(pool, await start(pool, RunRequest("inventory_etl", INTERVAL, "test")))
    process = await asyncio.create_subprocess_exec("sleep", "600")
    waiting = asyncio.create_task(its_worker._wait(process, claimed, asyncio.Event()))
    await asyncio.sleep(0.3)
    assert not waiting.done()

    async with connection.transaction():
        await runs.end(connection, claimed.run_id, claimed.attempt, RunStatus.CANCELLED, "cancelled by test")

    async with asyncio.timeout(30):
        assert await waiting == -signal.SIGKILL


async def test_a_healthy_run_goes_on_when_the_watch_over_it_fails(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> int:
        raise ValueError("no such luck")

    monkeypatch.setattr(worker, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(worker, "end_lost", fails)
    claimed = await claim(pool, await start(pool, RunRequest("inventory_etl", INTERVAL, "test")))
    process = await asyncio.create_subprocess_exec("sleep", "1")

    assert await Worker(settings, pool)._wait(process, claimed, asyncio.Event()) == 0


@asynccontextmanager
async def batch_process(settings: Settings, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process as it is deployed; it has ended when the context does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.pipeline", "batch"),
        cwd=ROOT,
        env=environment(settings, BATCH_POLL_SECONDS="0.05", **more),
    )
    try:
        yield process
    finally:
        process.terminate()
        assert await process.wait() == 0


async def ended(connection: Connection, run_id: object) -> tuple[RunStatus, str | None]:
    """How the run ended, once it has."""
    async with asyncio.timeout(90):
        while True:
            row = await run_row(connection, run_id)  # type: ignore[arg-type]
            if (status := RunStatus(row["status"])).is_final:
                return status, row["error"]
            await asyncio.sleep(0.05)


async def test_queued_runs_are_executed_and_a_killed_one_is_told_of_at_once(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    tidy = await start(pool, RunRequest("lake_maintenance", INTERVAL, "test"))
    killed = await start(pool, RunRequest("inventory_etl", INTERVAL, "test"))
    next_day = Interval(INTERVAL.end, INTERVAL.end.replace(day=8))
    later = await start(pool, RunRequest("lake_maintenance", next_day, "test"))

    async with batch_process(settings, STOCKFLOW_FAILPOINTS="batch.ledger_entries.committed=1"):
        assert await ended(connection, tidy) == (RunStatus.SUCCEEDED, None)
        assert await ended(connection, killed) == (RunStatus.FAILED, "the process was killed by SIGKILL")
        assert await ended(connection, later) == (RunStatus.SUCCEEDED, None)
