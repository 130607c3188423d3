"""Starting, ending and repeating runs: the rules of the run ledger, each in one transaction."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

import asyncpg
import structlog

from libs.chassis.database import Connection
from services.pipeline.jobs import job as job_definitions
from services.pipeline.jobs import run_queries
from services.pipeline.jobs.backfill import Backfill, Filled, TooManyIntervals, wanted
from services.pipeline.jobs.job import Interval, Job, NotByWarehouse
from services.pipeline.jobs.run import (
    Aborted,
    Claim,
    IntervalNotOver,
    IntervalTooEarly,
    KeyReused,
    NotCancellable,
    NotRetryable,
    RunInProgress,
    RunRequest,
    RunStatus,
    Started,
    StepStatus,
    UnknownRun,
)

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LOST = "the process that executed the run gives no sign of life"
INTERRUPTED = "interrupted: the process was asked to stop"

log = structlog.get_logger(__name__)


async def start(connection: Connection, request: RunRequest, *, key: str | None = None) -> Started:
    """Queue what is asked for, unless the key is known or the same work is queued or running: then that run.

    The same work has the same parameters. What succeeded before is computed again. Call it in a transaction. Raises
    UnknownJob, NotByWarehouse, IntervalNotOver, IntervalTooEarly, KeyReused, RunInProgress.
    """
    job = check(request, await run_queries.now(connection))
    steps = [step.name for step in job.select(request.steps)]
    await run_queries.lock_ledger(connection)
    if known := await _runs_of_key(connection, key, request.digest):
        return Started(known[request.interval], is_new=False)
    active = await run_queries.active_runs(connection, job.id, [request.interval], request.warehouse_id)
    run_id = next((row["run_id"] for row in active if _does(row, steps, request)), None)
    is_new = run_id is None
    if run_id is None:
        _check_free(active, steps)
        run_id = uuid4()
        await run_queries.insert_runs(connection, {run_id: request})
        await run_queries.insert_steps(connection, [run_id], steps)
    if key is not None:
        await run_queries.insert_key(connection, key, [run_id], request.digest)
    return Started(run_id, is_new)


async def fill(connection: Connection, backfill: Backfill, *, key: str | None = None) -> Filled:
    """Queue the runs of a backfill, unless the key is known: then those that it stands for.

    An interval that has a run queued or running keeps that alone. Call it in a transaction. Raises TooManyIntervals,
    UnknownJob, NotByWarehouse, IntervalNotOver, IntervalTooEarly, KeyReused.
    """
    await run_queries.lock_ledger(connection)
    if known := await _runs_of_key(connection, key, backfill.digest):
        return Filled(known, is_new=False)
    requests = {request.interval: request for request in await plan(connection, backfill)}
    active = await run_queries.active_runs(connection, backfill.job, requests, backfill.warehouse_id)
    going_on = {Interval(row["interval_start"], row["interval_end"]): row["run_id"] for row in active}
    run_ids = {interval: going_on.get(interval) or uuid4() for interval in requests}
    new = {run_ids[interval]: request for interval, request in requests.items() if interval not in going_on}
    await run_queries.insert_runs(connection, new)
    steps = [step.name for step in job_definitions.find(backfill.job).steps]
    await run_queries.insert_steps(connection, new, steps)
    if key is not None:
        await run_queries.insert_key(connection, key, run_ids.values(), backfill.digest)
    return Filled(run_ids, is_new=True)


async def claim_next(connection: Connection, worker: str, version: str) -> Claim | None:
    """The run that is due, for this process to execute; None when there is none. Call it in a transaction."""
    await run_queries.lock_ledger(connection)
    limits = {job.id: job.max_parallel_runs for job in job_definitions.jobs().values()}
    return await run_queries.claim_next(connection, limits, worker, version)


async def claim(connection: Connection, run_id: UUID, worker: str, version: str) -> Claim | None:
    """This very run, for this process to execute; None when others have it or its job runs often enough."""
    row = await found(connection, run_id)
    await run_queries.lock_ledger(connection)
    limit = job_definitions.find(row["job"]).max_parallel_runs
    return await run_queries.claim_run(connection, run_id, limit, worker, version)


async def end(connection: Connection, run_id: UUID, attempt: int, status: RunStatus, error: str | None) -> bool:
    """Store how an attempt ended, and queue the run again if it failed and has attempts left.

    QUEUED stands for an attempt that was interrupted: the run is due again at once, with one more attempt allowed.
    False when the attempt is fenced: nothing is changed. Call it in a transaction.
    """
    row = await found(connection, run_id)
    # Another version of this code may have begun it, and know jobs that this one does not.
    job = job_definitions.jobs().get(row["job"])
    delay = 0 if job is None or status is RunStatus.QUEUED else job.retry_delay_seconds
    ended = await run_queries.end_run(connection, run_id, attempt, status, error, delay)
    if ended is None:
        return False
    running_become = StepStatus.CANCELLED if ended == RunStatus.CANCELLED else StepStatus.FAILED
    await run_queries.close_steps(connection, run_id, running_become, error)
    if ended == RunStatus.QUEUED:
        await run_queries.requeue_steps(connection, run_id)
    return True


async def end_lost(connection: Connection, silent_seconds: float) -> list[Aborted]:
    """Mark the runs as failed whose process has died; their last attempts. Call it in a transaction.

    One whose process had not begun a step is queued again and has lost no attempt: nothing of the job was executed yet.
    """
    ended = []
    for lost in await run_queries.lost_runs(connection, silent_seconds):
        has_begun = await run_queries.has_begun(connection, lost.run_id, lost.attempt)
        status = RunStatus.FAILED if has_begun else RunStatus.QUEUED
        if await end(connection, lost.run_id, lost.attempt, status, LOST):
            running = tuple(step for step, status in lost.steps.items() if status is StepStatus.RUNNING)
            ended.append(Aborted(lost, running, LOST))
            log.warning("run.lost", run_id=str(lost.run_id), attempt=lost.attempt)
    return ended


async def retry(connection: Connection, run_id: UUID) -> None:
    """Queue a failed or cancelled run again: it goes on with the steps that have not succeeded.

    Call it in a transaction. Raises UnknownRun, NotRetryable, and RunInProgress when others do the same work now.
    """
    await found(connection, run_id)
    await run_queries.lock_ledger(connection)
    if not await run_queries.requeue_run(connection, run_id):
        raise NotRetryable(f"run {run_id} has not failed and was not cancelled")
    try:
        await run_queries.requeue_steps(connection, run_id)
    except asyncpg.UniqueViolationError as error:
        raise RunInProgress(f"another run computes the same interval as run {run_id} now") from error


async def cancel(connection: Connection, run_id: UUID, by: str) -> None:
    """End a run: at once while it waits, else as soon as its process hears of it.

    Call it in a transaction. Raises UnknownRun, NotCancellable.
    """
    await found(connection, run_id)
    before = await run_queries.request_cancel(connection, run_id, by)
    if before is None:
        raise NotCancellable(f"run {run_id} is over")
    if before == RunStatus.QUEUED:
        await run_queries.close_steps(connection, run_id, StepStatus.CANCELLED, None)


async def plan(connection: Connection, backfill: Backfill) -> list[RunRequest]:
    """What a backfill has to run, oldest first.

    Raises TooManyIntervals, UnknownJob, NotByWarehouse, IntervalNotOver, IntervalTooEarly.
    """
    job = _job(backfill.job, backfill.warehouse_id)
    now = await run_queries.now(connection)
    _check_over(job, backfill, now)
    at_most = None if backfill.most is None else backfill.most + 1
    intervals = job.intervals(backfill.start, backfill.end, at_most)
    if len(intervals) == at_most:
        raise TooManyIntervals(f"the range holds more than {backfill.most} intervals of {job.id}")
    known = await run_queries.history(connection, job, backfill.start, backfill.end, backfill.warehouse_id)
    requests = [
        RunRequest(job.id, interval, backfill.requested_by, warehouse_id=backfill.warehouse_id, is_backfill=True)
        for interval in wanted(intervals, known, backfill.which)
    ]
    for request in requests:
        _check_interval(request.interval, now)
    return requests


def check(request: RunRequest, now: datetime) -> Job:
    """The job that is asked for. Raises UnknownJob, NotByWarehouse, IntervalNotOver, IntervalTooEarly."""
    job = _job(request.job, request.warehouse_id)
    _check_interval(request.interval, now)
    return job


def _job(job_id: str, warehouse_id: str | None) -> Job:
    job = job_definitions.find(job_id)
    if warehouse_id is not None and not job.by_warehouse:
        raise NotByWarehouse(f"{job.id} cannot be run for one warehouse alone")
    return job


def _check_over(job: Job, backfill: Backfill, now: datetime) -> None:
    """Raises IntervalNotOver if the range reaches beyond now, without enumerating thousands of years."""
    [latest] = job.latest_intervals(now, 1)
    for interval in job.intervals(max(backfill.start, latest.end), backfill.end, most=1):
        _check_interval(interval, now)


def _check_interval(interval: Interval, now: datetime) -> None:
    if interval.end > now:
        raise IntervalNotOver(f"the interval is not over before {interval.end.isoformat()}")
    if interval.start < EARLIEST:
        raise IntervalTooEarly(f"the interval begins at {interval.start.isoformat()}, before {EARLIEST.isoformat()}")


async def _runs_of_key(connection: Connection, key: str | None, digest: bytes) -> dict[Interval, UUID]:
    known = [] if key is None else await run_queries.runs_of_key(connection, key)
    if any(row["request_hash"] != digest for row in known):
        raise KeyReused(f"Idempotency-Key {key} was used before for another request")
    return {Interval(row["interval_start"], row["interval_end"]): row["run_id"] for row in known}


def _does(active: asyncpg.Record, steps: list[str], request: RunRequest) -> bool:
    return set(active["steps"]) >= set(steps) and active["parameters"] == dict(request.parameters)


def _check_free(active: list[asyncpg.Record], steps: list[str]) -> None:
    for row in active:
        if common := set(row["steps"]) & set(steps):
            what = f"{', '.join(sorted(common))} of this interval"
            raise RunInProgress(f"run {row['run_id']} computes {what}, but not all that is asked for, or not so")


async def found(connection: Connection, run_id: UUID) -> asyncpg.Record:
    """A run. Raises UnknownRun."""
    row = await run_queries.find_run(connection, run_id)
    if row is None:
        raise UnknownRun(f"there is no run {run_id}")
    return row
