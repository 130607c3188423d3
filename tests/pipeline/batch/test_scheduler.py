"""The embedded scheduler: each interval is started once, by one leader, in order, and late jobs are told of."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from libs.chassis.database import Connection, Pool, own_connection
from services.pipeline.app import create_app
from services.pipeline.jobs import freshness, runs, schedule_queries
from services.pipeline.jobs.freshness import Beginning, Freshness, Success
from services.pipeline.jobs.job import Interval, Job, find, jobs
from services.pipeline.jobs.run import RunRequest, RunStatus
from services.pipeline.jobs.scheduler import Scheduler, utc_now
from services.pipeline.settings import Settings
from tests.pipeline.batch import postgres_clock
from tests.pipeline.batch.test_kills import environment
from tests.pipeline.batch.test_runs import executed
from tests.stack import ROOT, Database

HOURLY, DAILY = "transaction_aggregation", "inventory_etl"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOON = datetime(2026, 1, 5, 12, 7, tzinfo=UTC)
LAST_HOUR = Interval(datetime(2026, 1, 5, 11, 5, tzinfo=UTC), datetime(2026, 1, 5, 12, 5, tzinfo=UTC))


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@asynccontextmanager
async def a_leader(settings: Settings, clock: Clock) -> AsyncIterator[tuple[Scheduler, Connection]]:
    async with own_connection(settings.database_url.get_secret_value(), application_name="test") as connection:
        yield Scheduler(settings, clock), connection


async def started(connection: Connection, job: str = HOURLY) -> list[Interval]:
    """The intervals that were started, in the order in which they will be executed."""
    rows = await connection.fetch(
        "SELECT interval_start, interval_end FROM run WHERE job = $1 ORDER BY requested_at, interval_start", job
    )
    return [Interval(row["interval_start"], row["interval_end"]) for row in rows]


async def until_started(connection: Connection, count: int) -> None:
    """Wait until so many intervals were started."""
    async with asyncio.timeout(60):
        while len(await started(connection)) < count:
            await asyncio.sleep(0.005)


async def alerts(connection: Connection) -> list[dict[str, Any]]:
    """The alerts about the hourly job that wait to be sent."""
    rows = await connection.fetch("SELECT value FROM outbox ORDER BY id")
    return [event for row in rows if (event := json.loads(row["value"]))["figures"]["job"] == HOURLY]


@asynccontextmanager
async def a_schedule_process(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m services.pipeline schedule`, killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.pipeline", "schedule"),
        cwd=ROOT,
        env=environment(settings, SCHEDULER_POLL_SECONDS="0.05"),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def succeed(pool: Pool, settings: Settings, job: str, interval: Interval) -> None:
    async with pool.acquire() as connection, connection.transaction():
        run = await runs.start(connection, RunRequest(job, interval, "test"))  # type: ignore[arg-type]
    assert await executed(pool, settings, run.run_id) is RunStatus.SUCCEEDED


def since(start: datetime) -> Beginning:
    return Beginning(start, start)


def hours_before(interval: Interval, count: int) -> list[Interval]:
    return [Interval(interval.start - HOUR * back, interval.end - HOUR * back) for back in range(count, -1, -1)]


def test_a_job_that_never_ran_begins_with_the_latest_interval() -> None:
    assert freshness.due(find(HOURLY), set(), Beginning.of(find(HOURLY), NOON), NOON) == [LAST_HOUR]


def test_an_interval_is_due_once_it_is_over() -> None:
    begun = {(HOURLY, LAST_HOUR)}
    following = Interval(LAST_HOUR.end, LAST_HOUR.end + HOUR)

    assert freshness.due(find(HOURLY), begun, since(LAST_HOUR.start), following.end - timedelta(microseconds=1)) == []
    assert freshness.due(find(HOURLY), begun, since(LAST_HOUR.start), following.end) == [following]


def test_a_gap_is_due_although_a_later_interval_was_run_by_hand() -> None:
    first, second, third = hours_before(LAST_HOUR, 2)

    assert freshness.due(find(HOURLY), {(HOURLY, first), (HOURLY, third)}, since(first.start), NOON) == [second]


def test_no_more_than_max_catchup_of_the_latest_are_due() -> None:
    job = find(HOURLY)

    due = freshness.due(job, set(), since(NOON - 1000 * DAY), NOON)

    assert len(due) == job.max_catchup
    assert due == sorted(due)
    assert due[-1] == LAST_HOUR


@pytest.mark.parametrize("job", jobs().values(), ids=lambda job: job.id)
def test_deadlines_and_freshness_leave_time_for_the_job(job: Job) -> None:
    period = job.latest_intervals(NOON, 1)[0]

    assert job.deadline_seconds >= job.timeout_seconds
    assert job.freshness_seconds >= (period.end - period.start).total_seconds() + job.deadline_seconds


def test_a_job_is_not_late_before_it_has_had_its_time() -> None:
    job = find(DAILY)
    [interval] = job.latest_intervals(NOON, 1)
    beginning = Beginning(interval.start, switched_on_at=NOON)
    in_time = NOON + timedelta(seconds=job.deadline_seconds)

    assert freshness.overdue(job, set(), beginning, in_time - timedelta(seconds=1)) == []
    assert freshness.overdue(job, set(), beginning, in_time) == [interval]


@pytest.mark.parametrize(
    ("age", "expected"),
    [(timedelta(0), Freshness.FRESH), (2 * HOUR, Freshness.FRESH), (2 * HOUR + timedelta(seconds=1), Freshness.STALE)],
)
def test_data_are_fresh_as_long_as_the_job_promises(age: timedelta, expected: Freshness) -> None:
    assert freshness.freshness(find(HOURLY), Success(LAST_HOUR, NOON), LAST_HOUR.end + age) is expected


async def test_three_days_of_downtime_are_made_up_for_in_order(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    clock = Clock(NOON - 3 * DAY)
    async with a_leader(settings, clock) as (scheduler, leader):
        await scheduler.start_due(leader)
        before = {job: await started(connection, job) for job in (HOURLY, DAILY)}

        clock.now = NOON
        await scheduler.start_due(leader)
        await scheduler.start_due(leader)

    assert {job: len(intervals) for job, intervals in before.items()} == {HOURLY: 1, DAILY: 1}
    assert await started(connection, HOURLY) == hours_before(LAST_HOUR, 72)
    assert [interval.end.day for interval in await started(connection, DAILY)] == [2, 3, 4, 5]


async def test_a_clock_that_jumps_starts_nothing_twice(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await postgres_clock.install(database)
    clock = Clock()
    over_at_noon = hours_before(LAST_HOUR, 6)
    await schedule_queries.switch_on(connection, {HOURLY: since(over_at_noon[0].start)})
    async with a_leader(settings, clock) as (scheduler, leader):
        await postgres_clock.stop_at(leader, NOON)
        for hours in (-3, 5, -7, 24 * 365, -1, 0):
            clock.now = NOON + hours * HOUR
            await scheduler.start_due(leader)
        before = await started(connection)
        # An hour later by both clocks, and by neither any more.
        for hours in (1, 0, 1):
            clock.now = NOON + hours * HOUR
            await postgres_clock.stop_at(leader, clock.now)
            await scheduler.start_due(leader)

    assert before == over_at_noon
    assert await started(connection) == [*over_at_noon, Interval(LAST_HOUR.end, LAST_HOUR.end + HOUR)]


async def test_a_schedule_that_is_switched_on_by_a_clock_ahead_begins_now(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await postgres_clock.install(database)
    async with a_leader(settings, Clock(NOON + 365 * DAY)) as (scheduler, leader):
        await postgres_clock.stop_at(leader, NOON)
        await scheduler.watch(leader)
        await scheduler.start_due(leader)

    assert await started(connection) == [LAST_HOUR]
    assert await alerts(connection) == []


async def test_what_failed_for_good_is_left_to_people(pool: Pool, settings: Settings, connection: Connection) -> None:
    async with a_leader(settings, Clock()) as (scheduler, leader):
        await scheduler.start_due(leader)
        await connection.execute("UPDATE run SET status = 'failed'")
        await scheduler.start_due(leader)

    assert await started(connection) == [LAST_HOUR]


async def test_a_run_by_hand_in_the_past_starts_nothing_else(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    long_ago = hours_before(LAST_HOUR, 72)[0]
    await succeed(pool, settings, HOURLY, long_ago)
    async with a_leader(settings, Clock()) as (scheduler, leader):
        await scheduler.start_due(leader)

    assert await started(connection) == [long_ago, LAST_HOUR]


async def test_only_runs_that_succeed_go_on_or_are_the_schedulers_own_take_an_interval(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    cancelled, in_part, live, longer, within, never = hours_before(LAST_HOUR, 5)
    assert longer.end == within.start
    await schedule_queries.switch_on(connection, {HOURLY: since(cancelled.start)})
    async with connection.transaction():
        run = await runs.start(connection, RunRequest(HOURLY, cancelled, "test"))
        await runs.cancel(connection, run.run_id, "test")
        part = await runs.start(connection, RunRequest(HOURLY, in_part, "test", ("aggregate_transactions",)))
    assert await executed(pool, settings, part.run_id) is RunStatus.SUCCEEDED
    await succeed(pool, settings, HOURLY, Interval(longer.start, within.end))
    async with connection.transaction():
        await runs.start(connection, RunRequest(HOURLY, live, "test"))

    async with a_leader(settings, Clock()) as (scheduler, leader):
        await scheduler.start_due(leader)
        await scheduler.start_due(leader)

    rows = await connection.fetch(
        "SELECT interval_start, interval_end FROM run WHERE job = $1 AND requested_by = 'scheduler' ORDER BY 1", HOURLY
    )
    assert [Interval(*row) for row in rows] == [cancelled, in_part, never]


async def test_of_two_schedulers_one_leads_and_each_interval_is_started_once(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    first = hours_before(LAST_HOUR, 72)[0]
    await schedule_queries.switch_on(connection, {HOURLY: since(first.start)})
    polls_often = settings.model_copy(update={"scheduler_poll_seconds": 0.01})
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(Scheduler(polls_often, Clock()).run(stop))
        await until_started(connection, 73)
        stop.set()

    assert await started(connection) == hours_before(LAST_HOUR, 72)


async def test_even_two_leaders_start_each_interval_once(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    first = hours_before(LAST_HOUR, 24)[0]
    await schedule_queries.switch_on(connection, {HOURLY: since(first.start)})
    async with a_leader(settings, Clock()) as (one, its), a_leader(settings, Clock()) as (other, others):
        await asyncio.gather(one.start_due(its), other.start_due(others))

    assert await started(connection) == hours_before(LAST_HOUR, 24)


async def test_when_the_leader_is_killed_another_takes_over(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    longest = find(HOURLY).max_catchup
    first = find(HOURLY).latest_intervals(utc_now(), longest)[0]
    await schedule_queries.switch_on(connection, {HOURLY: since(first.start)})
    async with a_schedule_process(settings) as leader:
        await until_started(connection, 2)
        async with a_schedule_process(settings) as other:
            leader.kill()
            await leader.wait()
            await until_started(connection, longest)
            assert other.returncode is None

    intervals = await started(connection)
    assert intervals == find(HOURLY).intervals(first.start, intervals[-1].end)


async def test_with_an_external_scheduler_nothing_is_started(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    external = settings.model_copy(update={"scheduler": "external", "scheduler_poll_seconds": 0.01})
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Scheduler(external, Clock()).run(stop))
        await asyncio.sleep(0.3)
        stop.set()

    assert await started(connection) == []


async def test_a_missed_deadline_is_told_once_until_the_job_is_on_time_again(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    clock = Clock(LAST_HOUR.end)
    deadline = LAST_HOUR.end + timedelta(seconds=find(HOURLY).deadline_seconds)
    async with a_leader(settings, clock) as (scheduler, leader):
        await scheduler.start_due(leader)
        told = []
        for now in (deadline - timedelta(seconds=1), deadline, deadline + HOUR / 4):
            clock.now = now
            await scheduler.watch(leader)
            told.append(await alerts(connection))
        await succeed(pool, settings, HOURLY, LAST_HOUR)
        await scheduler.watch(leader)
        clock.now = deadline + HOUR
        await scheduler.watch(leader)
    told.append(await alerts(connection))

    assert [len(each) for each in told] == [0, 1, 1, 2]
    assert told[-1][0]["ruleId"] == "batch-deadline"
    assert told[-1][0]["figures"]["intervalEnd"] == LAST_HOUR.end.isoformat()
    assert told[-1][1]["figures"]["intervalStart"] == LAST_HOUR.end.isoformat()


async def test_the_api_says_what_is_next_and_how_old_the_data_are(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    latest = find(HOURLY).latest_intervals(utc_now(), 2)[0]
    await succeed(pool, settings, HOURLY, latest)
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/v1") as client,
    ):
        shown = {job["id"]: job for job in (await client.get("/jobs")).json()["items"]}

    hourly, daily = shown[HOURLY], shown[DAILY]
    assert datetime.fromisoformat(hourly["lastSuccess"]["intervalEnd"]) == latest.end
    assert HOUR.total_seconds() <= hourly["lagSeconds"] <= hourly["freshnessSeconds"]
    assert datetime.fromisoformat(hourly["nextRunAt"]) == latest.end + 2 * HOUR
    assert hourly["freshness"] == "fresh"
    assert (daily["lastSuccess"], daily["lagSeconds"], daily["freshness"]) == (None, None, "never")


async def test_the_last_success_is_found_without_reading_those_before(
    connection: Connection, database: Database
) -> None:
    # Of the two latest hours only the first step has succeeded.
    await connection.execute(
        """
        WITH hours AS (
            INSERT INTO run (run_id, job, interval_start, interval_end, status, requested_by)
            SELECT gen_random_uuid(), $1, $2::timestamptz - age, $3::timestamptz - age, 'succeeded', 'test'
              FROM generate_series(0, 2000) AS hour(back) CROSS JOIN LATERAL (SELECT back * interval '1 h') AS its(age)
            RETURNING run_id, job, interval_start, interval_end)
        INSERT INTO run_step (run_id, step, position, job, interval_start, interval_end, status, finished_at)
        SELECT run_id, step, position, job, interval_start, interval_end, 'succeeded', interval_end
          FROM hours CROSS JOIN unnest($4::text[]) WITH ORDINALITY AS its(step, position)
         WHERE position = 1 OR interval_end < $2
        """,
        HOURLY,
        LAST_HOUR.start,
        LAST_HOUR.end,
        [step.name for step in find(HOURLY).steps],
    )
    await analyze(database, "run_step")
    complete = hours_before(LAST_HOUR, 2)[0]

    async with connection.transaction():
        before = await rows_read(connection, "run_step")
        found = await schedule_queries.last_successes(connection, jobs().values())
        read = await rows_read(connection, "run_step") - before

    assert found == {HOURLY: Success(complete, complete.end)}
    assert read < 20


async def analyze(database: Database, table: str) -> None:
    """Have the planner know the table."""
    owner = await asyncpg.connect(database.superuser_url)
    try:
        await owner.execute(f"ANALYZE pipeline.{table}")
    finally:
        await owner.close()


async def rows_read(connection: Connection, table: str) -> int:
    """How many rows of the table this transaction has read."""
    rows: int = await connection.fetchval(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = $1", table
    )
    return rows
