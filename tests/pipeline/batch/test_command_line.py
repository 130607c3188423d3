"""`python -m services.pipeline.jobs`: how it ends, and what it says then."""

import asyncio
import sys

import pytest

from libs.chassis.database import Connection, Pool
from services.pipeline.jobs import __main__ as command_line
from services.pipeline.jobs.run import RunRequest
from services.pipeline.settings import Settings
from tests.pipeline.batch.test_kills import environment
from tests.pipeline.batch.test_runs import THE_DAY, claim, run_row, start
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
