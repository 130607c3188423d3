"""The `batch` process: executes what is queued, and tells at once when a run's process dies."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from libs.chassis.database import Connection, Pool
from services.pipeline.jobs import extraction, run_queries, runs, worker
from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.run import RunRequest, RunStatus
from services.pipeline.jobs.worker import Worker
from services.pipeline.settings import Settings
from tests.pipeline.batch.scenarios import INTERVAL
from tests.pipeline.batch.test_kills import environment
from tests.pipeline.batch.test_runs import begun, claim, claim_and_begin, run_row, start
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


async def test_a_process_that_takes_long_to_start_is_not_taken_for_dead(
    pool: Pool, settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "GRACE_SECONDS", 0.1)
    impatient = settings.model_copy(update={"batch_lost_seconds": 1.0})
    claimed = await claim(pool, await start(pool, RunRequest("inventory_etl", INTERVAL, "test")))
    process = await asyncio.create_subprocess_exec("sleep", "3")

    assert await Worker(impatient, pool)._wait(process, claimed, asyncio.Event()) == 0

    assert (await run_row(connection, claimed.run_id))["status"] == RunStatus.RUNNING


async def test_a_process_that_falls_silent_within_a_step_is_killed(
    pool: Pool, settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "GRACE_SECONDS", 0.1)
    impatient = settings.model_copy(update={"batch_lost_seconds": 0.4})
    claimed = await claim_and_begin(pool, await start(pool, RunRequest("inventory_etl", INTERVAL, "test")))
    process = await asyncio.create_subprocess_exec("sleep", "600")

    async with asyncio.timeout(30):
        assert await Worker(impatient, pool)._wait(process, claimed, asyncio.Event()) == -signal.SIGKILL

    assert (await run_row(connection, claimed.run_id))["error"] == runs.LOST


async def test_a_process_that_begins_no_step_is_killed(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(worker, "START_SECONDS", 0.3)
    claimed = await claim(pool, await start(pool, RunRequest("inventory_etl", INTERVAL, "test")))
    process = await asyncio.create_subprocess_exec("sleep", "600")

    async with asyncio.timeout(30):
        assert await Worker(settings, pool)._wait(process, claimed, asyncio.Event()) == -signal.SIGKILL


async def test_a_run_whose_process_cannot_start_has_failed_at_once(
    pool: Pool, settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    claimed = await claim(pool, await start(pool, RunRequest("inventory_etl", INTERVAL, "test")))

    await Worker(settings, pool)._execute(claimed, asyncio.Event())

    row = await run_row(connection, claimed.run_id)
    assert (row["status"], row["error"]) == (RunStatus.FAILED, "the process ended with exit code 1")


async def test_a_run_whose_process_must_be_killed_at_a_stop_is_queued_again(
    pool: Pool, settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "GRACE_SECONDS", 0)
    stop = asyncio.Event()
    stop.set()
    claimed = await claim_and_begin(pool, await start(pool, RunRequest("inventory_etl", INTERVAL, "test")))

    await Worker(settings, pool)._execute(claimed, stop)

    row = await run_row(connection, claimed.run_id)
    assert (row["status"], row["error"]) == (RunStatus.QUEUED, runs.INTERRUPTED)
    async with connection.transaction():
        again = await runs.claim_next(connection, "test", "0")
    assert again is not None
    assert again.attempt == 2


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


async def test_a_run_that_a_deployment_interrupts_is_queued_by_its_process_and_completed_by_the_next(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    run_id = await start(pool, RunRequest("inventory_etl", INTERVAL, "test"))

    with extraction.without_extractions(settings.database_url.get_secret_value()):
        async with batch_process(settings):
            await begun(connection, run_id, "extract_inventory_data")
            # A thread of the step waits for the end of this block.
            await asyncio.sleep(1)
        interrupted = await run_row(connection, run_id)
        told = [(line["event"], line["attempt"]) for line in await run_queries.logs_of(connection, run_id, 1000)]
    async with batch_process(settings):
        assert await ended(connection, run_id) == (RunStatus.SUCCEEDED, None)

    assert (interrupted["status"], interrupted["error"]) == (RunStatus.QUEUED, runs.INTERRUPTED)
    assert told[-1] == ("run.ended", 1)
    assert (await run_row(connection, run_id))["attempt"] == 2


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
