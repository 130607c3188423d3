"""Executes a run that this process has claimed: steps in order, signs of life, logs, timeout, cancellation."""

import asyncio
import logging
import resource
import time
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from libs.chassis.database import Connection, Pool, acquired
from libs.chassis.problems import Problem
from libs.events.postgres import TRANSIENT
from services.pipeline.jobs import job as job_definitions
from services.pipeline.jobs import lineage, run_queries, runs
from services.pipeline.jobs.fence import fenced
from services.pipeline.jobs.job import Job, Step
from services.pipeline.jobs.run import Aborted, Claim, Fenced, RunStatus, StepStatus, UpstreamMissing
from services.pipeline.jobs.step import Context, StepFunction, StepResult, function_of
from services.pipeline.settings import Settings

KIBIBYTE = 1024

Observer = Callable[[str, StepStatus, int, int], None]
"""Hears of a step: its name, its status, what is done and what there is to do (0 of 0 while nobody knows)."""

log = structlog.get_logger(__name__)


def ignore(_step: str, _status: StepStatus, _done: int, _total: int) -> None:
    """An observer that shows nothing."""


@dataclass(slots=True)
class Execution:
    """One attempt of a run."""

    claim: Claim
    pool: Pool
    settings: Settings
    observe: Observer = ignore
    find_function: Callable[[Job, Step], StepFunction] = function_of
    _progress: dict[str, tuple[int, int]] = field(default_factory=dict)
    _log_rows: list[tuple[Any, ...]] = field(default_factory=list)
    _running: set[str] = field(default_factory=set)

    async def run(self) -> RunStatus:
        """Execute the steps that have not succeeded yet, and store what became of the run.

        A run that is interrupted, because the process is asked to stop, is queued again at once, whatever attempts it
        has left. Raises Fenced when others have taken over meanwhile: then nothing more is stored.
        """
        self._log(None, "run.started", job=self.claim.job, interval=str(self.claim.interval))
        try:
            status, error = await self._attempt()
        except asyncio.CancelledError:
            await self._end(RunStatus.QUEUED, runs.INTERRUPTED)
            raise
        await self._end(status, error)
        return status

    async def _end(self, status: RunStatus, error: str | None) -> None:
        self._log(None, "run.ended", level="info" if error is None else "warning", status=status, error=error)
        async with self._flushing() as connection:
            if not await runs.end(connection, self.claim.run_id, self.claim.attempt, status, error):
                raise fenced(self.claim.run_id, self.claim.attempt)
        if self.settings.openlineage_url is not None:
            aborted = Aborted(self.claim, tuple(sorted(self._running)), error)
            await lineage.tell_aborted(self.settings.openlineage_url, [aborted])

    async def _attempt(self) -> tuple[RunStatus, str | None]:
        timeout = job_definitions.find(self.claim.job).timeout_seconds
        steps, watch = asyncio.create_task(self._run_steps()), asyncio.create_task(self._watch())
        try:
            done, _ = await asyncio.wait({steps, watch}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (steps, watch):
                task.cancel()
            await asyncio.wait({steps, watch})
        if watch in done:
            return RunStatus.CANCELLED, f"cancelled by {watch.result()}"
        if steps not in done:
            return RunStatus.FAILED, f"not done within {timeout} s"
        failed = steps.result()
        return (RunStatus.FAILED, "; ".join(failed)) if failed else (RunStatus.SUCCEEDED, None)

    async def _watch(self) -> str:
        """Give signs of life until somebody asks for the end of the run; who that is.

        Raises Fenced, and what is in the way of them when others may take the run for lost.
        """
        beaten_at = time.monotonic()
        while True:
            try:
                if (asked_by := await self._beat()) is not None:
                    return asked_by
                beaten_at = time.monotonic()
            except (*TRANSIENT, Problem) as error:
                if time.monotonic() - beaten_at > self.settings.batch_lost_seconds:
                    raise
                log.warning("run.beat_failed", run_id=str(self.claim.run_id), error=repr(error))
            await asyncio.sleep(self.settings.batch_heartbeat_seconds)

    async def _beat(self) -> str | None:
        """Give a sign of life; who asks for the end of the run, if anybody. Raises Fenced."""
        async with self._flushing() as connection:
            answer = await run_queries.beat(connection, self.claim.run_id, self.claim.attempt)
            if answer is None:
                raise fenced(self.claim.run_id, self.claim.attempt)
        asked_by: str | None = answer["cancel_requested_by"]
        return asked_by

    async def _run_steps(self) -> list[str]:
        """Run each step once those before it have succeeded, side by side where the order allows; what failed.

        Raises Fenced.
        """
        job = job_definitions.find(self.claim.job)
        outcomes: dict[str, asyncio.Task[str | None]] = {}
        try:
            async with asyncio.TaskGroup() as tasks:
                for step in job.select(self.claim.steps.keys()):
                    before = [outcomes[name] for name in step.after if name in outcomes]
                    outcomes[step.name] = tasks.create_task(self._run_after(before, step))
        except ExceptionGroup as errors:
            if errors.subgroup(Fenced) is not None:
                raise fenced(self.claim.run_id, self.claim.attempt) from errors
            raise
        return [error for task in outcomes.values() if (error := task.result())]

    async def _run_after(self, before: Sequence["asyncio.Task[str | None]"], step: Step) -> str | None:
        for task in before:
            if await task is not None:
                self.observe(step.name, StepStatus.SKIPPED, 0, 0)
                return f"{step.name} was skipped"
        if self.claim.steps[step.name] is StepStatus.SUCCEEDED:
            self.observe(step.name, StepStatus.SUCCEEDED, 1, 1)
            return None
        return await self._run_step(step)

    async def _run_step(self, step: Step) -> str | None:
        """Run one step and store what became of it; the error if it failed."""
        await self._begin(step)
        cpu_before = time.process_time()
        try:
            # In a thread, because it imports what the job needs.
            function = await asyncio.to_thread(self.find_function, job_definitions.find(self.claim.job), step)
            result = await function(await self._context(step))
        except Exception as error:
            # Whatever a step raises fails the step and the run, and is kept with them; other steps go on.
            self._log(step.name, "step.failed", level="error", traceback=traceback.format_exc())
            text = f"{step.name}: {type(error).__name__}: {error}"
            await self._finish(step, StepStatus.FAILED, cpu_before, error=text)
            return text
        await self._finish(step, StepStatus.SUCCEEDED, cpu_before, result=result)
        return None

    async def _begin(self, step: Step) -> None:
        self.observe(step.name, StepStatus.RUNNING, 0, 0)
        self._log(step.name, "step.started")
        async with acquired(self.pool) as connection, connection.transaction():
            await self._hold(connection)
            await run_queries.begin_step(connection, self.claim.run_id, step.name, self.claim.attempt)
        self._running.add(step.name)
        await self._tell("START", step)

    async def _finish(
        self,
        step: Step,
        status: StepStatus,
        cpu_before: float,
        *,
        result: StepResult | None = None,
        error: str | None = None,
    ) -> None:
        if result is not None:
            self._log(step.name, "step.succeeded", rows_in=result.rows_in, rows_out=result.rows_out)
        async with self._flushing() as connection:
            await self._hold(connection)
            await run_queries.end_step(
                connection,
                self.claim.run_id,
                step.name,
                status,
                result=result,
                error=error,
                cpu_seconds=time.process_time() - cpu_before,
                peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE,
            )
        self._running.discard(step.name)
        await self._tell("COMPLETE" if error is None else "FAIL", step, result=result, error=error)
        self.observe(step.name, status, 1, 1)

    async def _tell(self, kind: str, step: Step, *, result: StepResult | None = None, error: str | None = None) -> None:
        if self.settings.openlineage_url is not None:
            told = lineage.event(kind, self.claim, step.name, datetime.now(UTC), result=result, error=error)
            await lineage.tell(self.settings.openlineage_url, [told])

    async def _context(self, step: Step) -> Context:
        job = job_definitions.find(self.claim.job)
        async with acquired(self.pool) as connection:
            upstream = await run_queries.latest_results(
                connection, job.id, self.claim.interval, self.claim.warehouse_id, step.after
            )
        if missing := sorted(set(step.after) - set(upstream)):
            raise UpstreamMissing(f"{', '.join(missing)} has not succeeded for {self.claim.interval}")

        def progress(done: int, total: int) -> None:
            self._progress[step.name] = done, total
            self.observe(step.name, StepStatus.RUNNING, done, total)

        def write(event: str, *, level: str = "info", **fields: Any) -> None:
            self._log(step.name, event, level=level, **fields)

        return Context(
            run_id=self.claim.run_id,
            attempt=self.claim.attempt,
            job=job,
            step=step,
            interval=self.claim.interval,
            warehouse_id=self.claim.warehouse_id,
            parameters=self.claim.parameters,
            upstream=upstream,
            pool=self.pool,
            settings=self.settings,
            progress=progress,
            log=write,
        )

    async def _hold(self, connection: Connection) -> None:
        if not await run_queries.lock_attempt(connection, self.claim.run_id, self.claim.attempt):
            raise fenced(self.claim.run_id, self.claim.attempt)

    @asynccontextmanager
    async def _flushing(self) -> AsyncIterator[Connection]:
        """A transaction at whose end progress and log lines are stored; if it fails they wait for the next one."""
        progress: dict[str, tuple[int, int]] = {}
        rows: list[tuple[Any, ...]] = []
        try:
            async with acquired(self.pool) as connection, connection.transaction():
                yield connection
                progress, self._progress = self._progress, {}
                rows, self._log_rows = self._log_rows, []
                await run_queries.write_progress(connection, self.claim.run_id, progress)
                await run_queries.append_logs(connection, rows)
        except BaseException:
            self._progress = progress | self._progress
            self._log_rows = rows + self._log_rows
            raise

    def _log(self, step: str | None, event: str, *, level: str = "info", **fields: Any) -> None:
        shown = {name: str(value) if isinstance(value, Path | date | UUID) else value for name, value in fields.items()}
        where = {"run_id": str(self.claim.run_id), "attempt": self.claim.attempt, **({"step": step} if step else {})}
        log.log(logging.getLevelNamesMapping()[level.upper()], event, **where, **shown)
        self._log_rows.append((self.claim.run_id, datetime.now(UTC), self.claim.attempt, step, level, event, shown))
