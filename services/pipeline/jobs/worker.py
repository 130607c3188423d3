"""The `batch` process: executes queued runs, each in a process of its own, so that one can neither starve nor kill
another, and its memory is given back.
"""

import asyncio
import signal
import socket
import sys
import time
from contextlib import suppress

import structlog
from prometheus_client import Counter, Gauge

from libs.chassis.database import Pool, acquired, open_pool
from libs.chassis.problems import Problem
from libs.events.postgres import TRANSIENT
from services.pipeline.jobs import lineage, run_queries, runs
from services.pipeline.jobs.lost import end_lost
from services.pipeline.jobs.run import Aborted, Claim, RunStatus, StepStatus
from services.pipeline.settings import Settings

BACK_OFF_SECONDS = 2.0
GRACE_SECONDS = 15.0
START_SECONDS = 120.0
"""Most time that a process may take until it begins the first step of its run."""

EXECUTING = Gauge("stockflow_batch_executing", "Runs that this process executes now.")
EXECUTED = Counter("stockflow_batch_executed_total", "Runs that this process has executed.", ["job", "ended"])
LOST = Counter("stockflow_batch_lost_total", "Runs that were found without a living process.")

log = structlog.get_logger(__name__)


async def run(stop: asyncio.Event, settings: Settings) -> None:
    """Execute queued runs until asked to stop; runs that are not done by then are queued again."""
    url = settings.database_url.get_secret_value()
    async with await open_pool(url, size=2, application_name="pipeline-batch") as pool:
        await Worker(settings, pool).run(stop)


class Worker:
    """Claims runs and looks after the processes that execute them."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self._settings = settings
        self._pool = pool
        self._name = f"{socket.gethostname()}-batch"
        self._executing: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Execute queued runs until asked to stop; when Postgres is away, try again."""
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                pause = self._settings.batch_poll_seconds
                try:
                    claim = await self._claim() if len(self._executing) < self._settings.batch_slots else None
                except (*TRANSIENT, Problem) as error:
                    log.warning("batch.backing_off", error=repr(error), seconds=BACK_OFF_SECONDS)
                    claim, pause = None, BACK_OFF_SECONDS
                if claim is not None:
                    task = tasks.create_task(self._execute(claim, stop))
                    self._executing.add(task)
                    task.add_done_callback(self._executing.discard)
                    continue
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)

    async def _claim(self) -> Claim | None:
        LOST.inc(await end_lost(self._pool, self._settings))
        async with acquired(self._pool) as connection, connection.transaction():
            return await runs.claim_next(connection, self._name, self._settings.version)

    async def _execute(self, claim: Claim, stop: asyncio.Event) -> None:
        command = ("-m", "services.pipeline.jobs", "execute", str(claim.run_id), "--attempt", str(claim.attempt))
        process = await asyncio.create_subprocess_exec(sys.executable, *command)
        with EXECUTING.track_inprogress():
            code = await self._wait(process, claim, stop)
        EXECUTED.labels(claim.job, "done" if code == 0 else "failed").inc()
        if code != 0:
            await self._end(claim, *_what_became(code, stop.is_set()))

    async def _wait(self, process: asyncio.subprocess.Process, claim: Claim, stop: asyncio.Event) -> int:
        """The exit code; once asked to stop, the process is asked, too.

        It is killed if it does not hear, begins no step, or goes on though its run was cancelled, timed out or taken
        for lost.
        """
        ended, asked = asyncio.ensure_future(process.wait()), asyncio.ensure_future(stop.wait())
        over = asyncio.create_task(self._until_over(claim))
        try:
            await asyncio.wait({ended, asked, over}, return_when=asyncio.FIRST_COMPLETED)
            if over.done() and (error := over.exception()):
                # A bug of this process says nothing about the run, which goes on unwatched.
                log.error("batch.watch_failed", run_id=str(claim.run_id), attempt=claim.attempt, exc_info=error)
                await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done() and not ended.done():
                process.terminate()
            if not ended.done():
                await asyncio.wait({ended}, timeout=GRACE_SECONDS)
            if not ended.done():
                log.warning("batch.process_killed", run_id=str(claim.run_id), attempt=claim.attempt)
                process.kill()
            return await ended
        finally:
            asked.cancel()
            over.cancel()

    async def _until_over(self, claim: Claim) -> None:
        """Wait until the attempt does not count any more, or has begun no step in time.

        Until it begins one, the signs of life are given here: a process that loads its code can give none.
        """
        begin_by = time.monotonic() + START_SECONDS
        while True:
            await asyncio.sleep(self._settings.batch_heartbeat_seconds)
            try:
                async with acquired(self._pool) as connection:
                    if not await run_queries.has_begun(connection, claim.run_id, claim.attempt):
                        if time.monotonic() > begin_by:
                            return
                        await run_queries.beat(connection, claim.run_id, claim.attempt)
                LOST.inc(await end_lost(self._pool, self._settings))
                async with acquired(self._pool) as connection:
                    if await run_queries.claimed(connection, claim.run_id, claim.attempt) is None:
                        return
            except (*TRANSIENT, Problem) as error:
                log.warning("batch.backing_off", error=repr(error), seconds=BACK_OFF_SECONDS)

    async def _end(self, claim: Claim, status: RunStatus, error: str) -> None:
        """Store at once what a process could not, not only once its run has been silent for long enough."""
        try:
            async with acquired(self._pool) as connection, connection.transaction():
                steps = await run_queries.steps_of(connection, [claim.run_id])
                if not await runs.end(connection, claim.run_id, claim.attempt, status, error):
                    return
            running = tuple(step["step"] for step in steps if step["status"] == StepStatus.RUNNING)
            if self._settings.openlineage_url is not None:
                await lineage.tell_aborted(self._settings.openlineage_url, [Aborted(claim, running, error)])
        except (*TRANSIENT, Problem) as trouble:
            log.warning("batch.end_not_stored", run_id=str(claim.run_id), error=repr(trouble))


def _what_became(code: int, was_asked_to_stop: bool) -> tuple[RunStatus, str]:
    """The status and the error of a run whose process has ended so without storing them."""
    if was_asked_to_stop or code == -signal.SIGTERM:
        return RunStatus.QUEUED, runs.INTERRUPTED
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return RunStatus.FAILED, f"the process {how}"
