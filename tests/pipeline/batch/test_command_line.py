"""`python -m services.pipeline.jobs`: how it ends, and what it says then."""

import asyncio
import signal
import sys
from datetime import UTC, datetime

import pytest

from libs.chassis.database import Connection, Pool
from services.pipeline.jobs import __main__ as command_line
from services.pipeline.jobs.job import Interval, find
from services.pipeline.jobs.run import RunRequest
from services.pipeline.settings import Settings
from tests.pipeline.batch.test_kills import environment
from tests.pipeline.batch.test_runs import THE_DAY, claim, claim_and_begin, run_row, start
from tests.stack import ROOT

A_STEP_WITH_A_THREAD_THAT_NEVER_ENDS = """
import asyncio, time
from services.pipeline.jobs import __main__ as command_line, weekly_summary

async def fails(_context):
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)
    raise ValueError("no such luck")

weekly_summary.aggregate_week = fails
command_line.main()
"""


A_STEP_THAT_NEVER_ENDS = """
import asyncio, time
from services.pipeline.jobs import __main__ as command_line, weekly_summary

async def sleeps(_context):
    print("sleeps", flush=True)
    await asyncio.to_thread(time.sleep, 600)

weekly_summary.aggregate_week = sleeps
command_line.main()
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
async def test_a_command_that_is_interrupted_cancels_its_runs_and_leaves_at_once(
    settings: Settings, connection: Connection, how: signal.Signals
) -> None:
    weeks = ("--from", "2026-01-05", "--to", "2026-02-03", "--parallel", "4")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", A_STEP_THAT_NEVER_ENDS, "backfill", "weekly_summary", *weeks),
        cwd=ROOT,
        env=environment(settings),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            assert process.stdout is not None
            while await process.stdout.readline() != b"sleeps\n":
                pass
            process.send_signal(how)
            assert await process.wait() == command_line.INTERRUPTED
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    begun = await connection.fetch("SELECT status, interval_start FROM run ORDER BY requested_at, interval_start")
    assert {row["status"] for row in begun} == {"cancelled"}
    assert 1 <= len(begun) <= find("weekly_summary").max_parallel_runs
    assert begun[0]["interval_start"].day == 5


async def test_a_process_whose_run_failed_waits_for_no_thread(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    claimed = await claim(pool, await start(pool, RunRequest("weekly_summary", THE_DAY, "test")))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", A_STEP_WITH_A_THREAD_THAT_NEVER_ENDS, "execute", str(claimed.run_id), "--attempt", "1"),
        cwd=ROOT,
        env=environment(settings),
    )
    try:
        async with asyncio.timeout(60):
            assert await process.wait() == command_line.FAILED
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert "no such luck" in (await run_row(connection, claimed.run_id))["error"]


@pytest.mark.parametrize("command", ["run", "backfill"])
async def test_who_waits_for_a_run_whose_process_dies_hears_of_its_end(
    pool: Pool, settings: Settings, connection: Connection, command: str
) -> None:
    dead = await claim_and_begin(pool, await start(pool))
    impatient = settings.model_copy(update={"batch_lost_seconds": 0.5})
    arguments = command_line._parser().parse_args(
        [command, "inventory_etl", "--from", "2026-01-05T02:00", "--to", "2026-01-06T02:00"]
    )

    async with asyncio.timeout(20):
        assert await arguments.function(pool, impatient, arguments) == command_line.FAILED

    assert (await run_row(connection, dead.run_id))["status"] == "failed"


async def test_a_backfill_does_again_what_a_dead_process_has_left(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    hour = Interval(datetime(2026, 1, 5, 2, 5, tzinfo=UTC), datetime(2026, 1, 5, 3, 5, tzinfo=UTC))
    await claim_and_begin(pool, await start(pool, RunRequest("transaction_aggregation", hour, "test")))
    await connection.execute("UPDATE run SET heartbeat_at = now() - interval '1 hour'")
    arguments = command_line._parser().parse_args(
        ["backfill", "transaction_aggregation", "--from", "2026-01-05T02:05", "--to", "2026-01-05T03:05"]
    )

    assert await arguments.function(pool, settings, arguments) == command_line.SUCCEEDED

    statuses = await connection.fetch("SELECT status FROM run ORDER BY requested_at")
    assert [row["status"] for row in statuses] == ["failed", "succeeded"]


async def test_a_run_that_fails_is_told_of_in_one_line(
    pool: Pool, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command_line._parser().parse_args(
        ["run", "weekly_summary", "--from", "2026-01-06", "--to", "2026-01-07"]
    )

    assert await arguments.function(pool, settings, arguments) == command_line.FAILED

    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == "failed"
    assert told.err.splitlines()[-1].startswith("aggregate_week: NotOneWeek: [2026-01-06T00:00:00Z, ")


async def test_a_backfill_shows_on_standard_error_how_many_intervals_are_done(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    arguments = command_line._parser().parse_args(
        ["backfill", "transaction_aggregation", "--from", "2026-01-05T02:05", "--to", "2026-01-05T04:05"]
    )

    assert await arguments.function(pool, settings, arguments) == command_line.SUCCEEDED

    told = capsys.readouterr()
    shown = [told.err.find(f"{done} of 2") for done in range(3)]
    assert shown == sorted(shown)
    assert -1 not in shown
    lines = [line for line in told.out.splitlines() if line.startswith("[")]
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["succeeded"] * 2
