"""The `schedule` process: starts the runs of `schedules.yaml` that are due, and tells when one misses its deadline.

Any number may run: the one that holds the lock leads, and the lock goes with its connection. What leads starts runs
through that very connection, so who has lost the lock starts nothing. Even two
leaders start each interval once, because each looks at what is begun while it holds the lock of the ledger. A clock
that goes ahead of Postgres' starts nothing early.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Counter, Gauge

from libs.chassis.database import Connection, own_connection
from libs.events import outbox
from libs.events.analytics import DataQualityAlert, Severity
from libs.events.envelope import document_event_id
from libs.events.postgres import TRANSIENT
from services.pipeline.jobs import freshness, run_queries, runs, schedule_queries
from services.pipeline.jobs import job as job_definitions
from services.pipeline.jobs.freshness import Beginning
from services.pipeline.jobs.job import Interval, Job
from services.pipeline.jobs.run import RunRequest
from services.pipeline.settings import Settings

BACK_OFF_SECONDS = 2.0
WATCH_SECONDS = 10.0
"""How often deadlines are looked at."""

LEADING = Gauge("stockflow_scheduler_leading", "1 while this process starts the runs, 0 while it stands by.")
STARTED = Counter("stockflow_scheduler_started_total", "Runs that this process has started.", ["job"])
MISSED = Counter("stockflow_batch_deadlines_missed_total", "Times that a job became late.", ["job"])
OVERDUE = Gauge("stockflow_batch_overdue_intervals", "Intervals past their deadline that have not succeeded.", ["job"])
DATA_AGE = Gauge("stockflow_batch_data_age_seconds", "Time since the end of the latest interval done.", ["job"])

log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    """The time of this machine."""
    return datetime.now(UTC)


class Scheduler:
    """Starts what is due, as long as it leads."""

    def __init__(self, settings: Settings, now: Callable[[], datetime] = utc_now) -> None:
        self._settings = settings
        self._now = now
        self._late: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Lead, or wait for the leader's death, until asked to stop; when Postgres is away, try again."""
        url = self._settings.database_url.get_secret_value()
        while not stop.is_set():
            try:
                async with own_connection(url, application_name="pipeline-schedule") as connection:
                    await self._session(connection, stop)
            except TRANSIENT as error:
                log.warning("scheduler.backing_off", error=repr(error), seconds=BACK_OFF_SECONDS)
                await _rest(stop, BACK_OFF_SECONDS)
            finally:
                self._resign()

    async def _session(self, connection: Connection, stop: asyncio.Event) -> None:
        watch_at = 0.0
        leads = False
        while not stop.is_set():
            if not leads and (leads := await schedule_queries.try_to_lead(connection)):
                log.info("scheduler.leads", starts_runs=self._settings.scheduler == "embedded")
                LEADING.set(1)
            if leads and self._settings.scheduler == "embedded":
                await self.start_due(connection)
            if leads and (loop_time := asyncio.get_running_loop().time()) >= watch_at:
                await self.watch(connection)
                watch_at = loop_time + WATCH_SECONDS
            await _rest(stop, self._settings.scheduler_poll_seconds)

    async def start_due(self, connection: Connection) -> None:
        """Queue a run for every interval that is due, oldest first."""
        if await _due(connection, await self._time(connection)):
            async with connection.transaction():
                # Until it ends, nobody else starts anything: what is due now is begun here alone.
                await run_queries.lock_ledger(connection)
                for job, interval in await _due(connection, await self._time(connection)):
                    await _start(connection, job, interval)

    async def watch(self, connection: Connection) -> None:
        """Measure how old the data of each job are, and tell once when a job has become late."""
        now = await self._time(connection)
        jobs = job_definitions.jobs().values()
        beginnings = await _beginnings(connection, now)
        successes = await schedule_queries.last_successes(connection, jobs)
        longest_ago = min(
            job.latest_intervals(now - timedelta(seconds=job.deadline_seconds), job.max_catchup)[0].start
            for job in jobs
        )
        succeeded = await schedule_queries.succeeded_intervals(connection, jobs, longest_ago)
        for job in jobs:
            if (age := freshness.lag(successes.get(job.id), now)) is not None:
                DATA_AGE.labels(job.id).set(age.total_seconds())
            late = freshness.overdue(job, succeeded, beginnings[job.id], now)
            OVERDUE.labels(job.id).set(len(late))
            if late and job.id not in self._late:
                await self._tell(connection, job, late, now)
            elif not late and job.id in self._late:
                log.info("batch.on_time_again", job=job.id)
                self._late.discard(job.id)

    async def _tell(self, connection: Connection, job: Job, late: list[Interval], now: datetime) -> None:
        """Log, count and publish that a job is late. A new leader tells it again, under the same event id."""
        async with connection.transaction():
            await outbox.enqueue(connection, [_deadline_missed(job, late, now)])
        log.warning("batch.deadline_missed", job=job.id, interval=str(late[0]), overdue=len(late))
        MISSED.labels(job.id).inc()
        self._late.add(job.id)

    async def _time(self, connection: Connection) -> datetime:
        """The earlier of this machine's time and Postgres', which decides what is over."""
        return min(self._now(), await run_queries.now(connection))

    def _resign(self) -> None:
        LEADING.set(0)
        OVERDUE.clear()
        DATA_AGE.clear()
        self._late.clear()


async def _beginnings(connection: Connection, now: datetime) -> dict[str, Beginning]:
    """Job id -> where its schedule begins: now, of a job that the schedules did not have before."""
    known = await schedule_queries.beginnings(connection)
    new = {job.id: Beginning.of(job, now) for job in job_definitions.jobs().values() if job.id not in known}
    if new:
        await schedule_queries.switch_on(connection, new)
        known = await schedule_queries.beginnings(connection)
    return known


async def _due(connection: Connection, now: datetime) -> list[tuple[Job, Interval]]:
    jobs = job_definitions.jobs().values()
    beginnings = await _beginnings(connection, now)
    longest_ago = min(job.latest_intervals(now, job.max_catchup)[0].start for job in jobs)
    begun = await schedule_queries.begun_intervals(connection, jobs, longest_ago)
    return [(job, interval) for job in jobs for interval in freshness.due(job, begun, beginnings[job.id], now)]


async def _start(connection: Connection, job: Job, interval: Interval) -> None:
    request = RunRequest(job.id, interval, schedule_queries.SCHEDULER, max_attempts=job.retries + 1)
    started = await runs.start(connection, request)
    log.info("scheduler.started", job=job.id, interval=str(interval), run_id=str(started.run_id))
    STARTED.labels(job.id).inc()


def _deadline_missed(job: Job, late: list[Interval], now: datetime) -> DataQualityAlert:
    event_id = document_event_id("DATA_QUALITY_ALERT", f"deadline/{job.id}/{late[0]}", 1)
    return DataQualityAlert(
        event_id=event_id,
        sku=None,
        warehouse_id=None,
        timestamp=now,
        recorded_at=now,
        source="pipeline-schedule",
        alert_id=event_id,
        revision=1,
        rule_id="batch-deadline",
        severity=Severity.ERROR,
        failed=len(late),
        figures={
            "job": job.id,
            "intervalStart": late[0].start.isoformat(),
            "intervalEnd": late[0].end.isoformat(),
            "deadlineSeconds": job.deadline_seconds,
        },
        suggested_action=f"See why the run of {job.id} over {late[0]} has not succeeded: GET /api/v1/runs?job={job.id}",
    )


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
