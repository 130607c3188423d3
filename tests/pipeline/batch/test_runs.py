"""Runs of batch jobs: started once, executed by one, cancelled, retried, and found when their process dies."""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import asyncpg
import pytest

from libs.chassis.database import Connection, Pool, own_connection
from services.pipeline.jobs import run_queries, runs, schedule_queries
from services.pipeline.jobs.backfill import Backfill, Which
from services.pipeline.jobs.execution import Execution, ignore
from services.pipeline.jobs.job import Interval, Job, NotByWarehouse, Step, UnknownJob, find
from services.pipeline.jobs.run import (
    Claim,
    Fenced,
    History,
    IntervalNotOver,
    IntervalTooEarly,
    KeyReused,
    NotCancellable,
    NotRetryable,
    RunInProgress,
    RunRequest,
    RunStatus,
)
from services.pipeline.jobs.step import Context, StepFunction, StepResult
from services.pipeline.settings import Settings
from tests.pipeline.batch import postgres_clock
from tests.stack import Database

THE_DAY = Interval(datetime(2026, 1, 5, 2, tzinfo=UTC), datetime(2026, 1, 6, 2, tzinfo=UTC))
STEPS = ["extract_inventory_data", "transform_and_load", "generate_aggregated_metrics", "data_quality_check"]


def a_request(steps: tuple[str, ...] | None = None, **changes: object) -> RunRequest:
    values = {"job": "inventory_etl", "interval": THE_DAY, "requested_by": "test", "steps": steps, **changes}
    return RunRequest(**values)  # type: ignore[arg-type]


async def start(pool: Pool, request: RunRequest | None = None, key: str | None = None) -> UUID:
    async with pool.acquire() as connection, connection.transaction():
        return (await runs.start(connection, request or a_request(), key=key)).run_id  # type: ignore[arg-type]


async def claim(pool: Pool, run_id: UUID) -> Claim:
    async with pool.acquire() as connection, connection.transaction():
        claimed = await runs.claim(connection, run_id, "test", "0")  # type: ignore[arg-type]
    assert claimed is not None
    return claimed


async def claim_and_begin(pool: Pool, run_id: UUID) -> Claim:
    claimed = await claim(pool, run_id)
    async with pool.acquire() as connection:
        await run_queries.begin_step(connection, run_id, next(iter(claimed.steps)), claimed.attempt)  # type: ignore[arg-type]
    return claimed


async def nothing(_context: Context) -> StepResult:
    return StepResult()


async def fails(_context: Context) -> StepResult:
    raise ValueError("no such luck")


async def never_ends(_context: Context) -> StepResult:
    await asyncio.Event().wait()
    return StepResult()


def execution(pool: Pool, settings: Settings, claimed: Claim, functions: Mapping[str, StepFunction]) -> Execution:
    def find(_job: Job, step: Step) -> StepFunction:
        return functions.get(step.name, nothing)

    return Execution(claimed, pool, settings, ignore, find)


async def executed(pool: Pool, settings: Settings, run_id: UUID, **functions: StepFunction) -> RunStatus:
    return await execution(pool, settings, await claim(pool, run_id), functions).run()


async def step_statuses(connection: Connection, run_id: UUID) -> dict[str, str]:
    return {row["step"]: row["status"] for row in await run_queries.steps_of(connection, [run_id])}


async def run_row(connection: Connection, run_id: UUID) -> asyncpg.Record:
    return await runs.found(connection, run_id)


async def test_the_same_key_is_the_same_run_even_after_its_end(pool: Pool, settings: Settings) -> None:
    first = await start(pool, key="dag/1/extract/1")
    await executed(pool, settings, first)

    assert await start(pool, key="dag/1/extract/1") == first
    assert await start(pool, key="dag/1/extract/2") != first


async def test_a_key_stands_for_one_request_only(pool: Pool) -> None:
    await start(pool, key="k")

    with pytest.raises(KeyReused):
        await start(pool, a_request(("extract_inventory_data",)), key="k")


async def test_who_asks_for_what_is_being_done_is_attached_to_it(pool: Pool) -> None:
    whole = await start(pool)

    assert await start(pool) == whole
    assert await start(pool, a_request(("data_quality_check",))) == whole


async def test_what_is_done_in_part_only_is_refused(pool: Pool) -> None:
    await start(pool, a_request(("data_quality_check",)))

    with pytest.raises(RunInProgress, match="data_quality_check"):
        await start(pool)


async def test_who_asks_for_more_than_is_being_done_is_not_attached(pool: Pool) -> None:
    incremental = await start(pool)

    with pytest.raises(RunInProgress, match=str(incremental)):
        await start(pool, a_request(parameters={"full": True}))


async def test_runs_of_warehouses_are_works_of_their_own(pool: Pool) -> None:
    of_all = await start(pool)
    of_one = await start(pool, a_request(warehouse_id="X"))

    assert of_all != of_one
    assert await start(pool, a_request(warehouse_id="X")) == of_one
    assert await start(pool, a_request(warehouse_id="Y")) not in (of_all, of_one)
    with pytest.raises(NotByWarehouse, match="transaction_aggregation"):
        await start(pool, a_request(job="transaction_aggregation", warehouse_id="X"))
    no_interval = Backfill("weekly_summary", THE_DAY.start, THE_DAY.end, Which.ALL, "test", warehouse_id="X")
    async with pool.acquire() as connection:
        with pytest.raises(NotByWarehouse, match="weekly_summary"):
            await runs.plan(connection, no_interval)  # type: ignore[arg-type]


async def test_a_run_of_one_warehouse_does_not_stand_for_the_interval(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    await executed(pool, settings, await start(pool, a_request(warehouse_id="X")))
    job = find("inventory_etl")

    assert await schedule_queries.begun_intervals(connection, [job], THE_DAY.start) == set()
    assert await schedule_queries.first_start(connection, job) is None
    assert await schedule_queries.last_successes(connection, [job]) == {}
    assert await run_queries.history(connection, job, THE_DAY.start, THE_DAY.end, None) == {}
    assert await run_queries.history(connection, job, THE_DAY.start, THE_DAY.end, "X") == {
        THE_DAY: History(is_done=True, has_failed=False)
    }


async def test_an_interval_has_failed_as_long_as_the_latest_run_of_a_step_has(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    async def seen() -> History:
        job = find("inventory_etl")
        return (await run_queries.history(connection, job, THE_DAY.start, THE_DAY.end, None))[THE_DAY]

    await executed(pool, settings, await start(pool))
    await executed(pool, settings, await start(pool), data_quality_check=fails)
    assert await seen() == History(is_done=True, has_failed=True)
    await start(pool, a_request(steps=("data_quality_check",)))
    assert await seen() == History(is_done=True, has_failed=True)
    await executed(pool, settings, (await start(pool, a_request(steps=("data_quality_check",)))))
    assert await seen() == History(is_done=True, has_failed=False)


async def test_a_key_stands_for_the_same_instants_in_any_time_zone(pool: Pool) -> None:
    elsewhere = timezone(timedelta(hours=2))
    same = Interval(THE_DAY.start.astimezone(elsewhere), THE_DAY.end.astimezone(elsewhere))

    assert await start(pool, key="k") == await start(pool, a_request(interval=same), key="k")


async def test_unknown_jobs_and_steps_are_refused(pool: Pool) -> None:
    with pytest.raises(UnknownJob, match="there is no job nightly"):
        await start(pool, a_request(job="nightly"))
    with pytest.raises(UnknownJob, match="has no step fly"):
        await start(pool, a_request(("fly",)))


async def test_an_interval_that_is_not_over_is_refused_with_its_end(pool: Pool) -> None:
    now = datetime.now(UTC)
    end = now + timedelta(hours=1)

    with pytest.raises(IntervalNotOver, match=re.escape(end.isoformat())):
        await start(pool, a_request(interval=Interval(now - timedelta(days=6), end)))
    with pytest.raises(IntervalTooEarly, match="before 1970-01-01"):
        await start(pool, a_request(interval=Interval(datetime(1969, 12, 31, tzinfo=UTC), now)))
    await start(pool, a_request(interval=Interval(now - timedelta(days=6), now)))


async def test_postgres_decides_whether_an_interval_is_over(pool: Pool, settings: Settings, database: Database) -> None:
    the_range = Backfill("inventory_etl", THE_DAY.start, THE_DAY.end, Which.ALL, "test")
    url = settings.database_url.get_secret_value()
    await postgres_clock.install(database)
    async with own_connection(url, application_name="test") as connection, connection.transaction():
        await postgres_clock.stop_at(connection, THE_DAY.end - timedelta(microseconds=1))
        with pytest.raises(IntervalNotOver):
            await runs.start(connection, a_request())
        with pytest.raises(IntervalNotOver):
            await runs.plan(connection, the_range)
        await postgres_clock.stop_at(connection, THE_DAY.end)

        assert (await runs.start(connection, a_request())).is_new
        assert [request.interval for request in await runs.plan(connection, the_range)] == [THE_DAY]


async def test_steps_run_in_order_and_side_by_side(pool: Pool, settings: Settings) -> None:
    begun: list[str] = []
    both = asyncio.Barrier(2)

    async def note(context: Context) -> StepResult:
        begun.append(context.step.name)
        return StepResult(rows_out=7, partitions=("2026-01-05",), watermark_to=3)

    async def meet(context: Context) -> StepResult:
        async with asyncio.timeout(10):
            await both.wait()
        return await note(context)

    run_id = await start(pool)
    status = await executed(
        pool,
        settings,
        run_id,
        extract_inventory_data=note,
        transform_and_load=meet,
        data_quality_check=meet,
        generate_aggregated_metrics=note,
    )

    assert status is RunStatus.SUCCEEDED
    assert begun[0] == STEPS[0]
    assert begun.index("transform_and_load") < begun.index("generate_aggregated_metrics")


async def test_a_step_is_given_the_results_of_those_before(pool: Pool, settings: Settings) -> None:
    given: list[StepResult] = []

    async def extract(_context: Context) -> StepResult:
        return StepResult(5, 4, ("2026-01-05",), 10, 20, {"quarantined": 1})

    async def check(context: Context) -> StepResult:
        given.append(context.upstream["extract_inventory_data"])
        return StepResult()

    run_id = await start(pool)
    await executed(pool, settings, run_id, extract_inventory_data=extract)
    alone = await start(pool, a_request(("data_quality_check",)))
    await executed(pool, settings, alone, data_quality_check=check)

    assert given == [StepResult(5, 4, ("2026-01-05",), 10, 20, {"quarantined": 1})]


async def test_a_step_alone_fails_when_what_it_needs_is_missing(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    run_id = await start(pool, a_request(("data_quality_check",)))

    assert await executed(pool, settings, run_id) is RunStatus.FAILED
    assert "extract_inventory_data has not succeeded" in (await run_row(connection, run_id))["error"]


async def test_a_failed_run_goes_on_from_the_failed_step(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    run_id = await start(pool)
    assert await executed(pool, settings, run_id, transform_and_load=fails) is RunStatus.FAILED
    assert await step_statuses(connection, run_id) == dict(
        zip(STEPS, ("succeeded", "failed", "skipped", "succeeded"), strict=True)
    )
    assert "no such luck" in (await run_row(connection, run_id))["error"]

    async with connection.transaction():
        await runs.retry(connection, run_id)
    status = await executed(pool, settings, run_id, extract_inventory_data=fails, data_quality_check=fails)

    assert status is RunStatus.SUCCEEDED
    assert {row["step"]: row["attempt"] for row in await run_queries.steps_of(connection, [run_id])} == dict(
        zip(STEPS, (1, 2, 2, 1), strict=True)
    )


async def test_a_run_with_attempts_left_is_queued_again_after_a_delay(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    run_id = await start(pool, a_request(max_attempts=2))

    await executed(pool, settings, run_id, transform_and_load=fails)

    row = await run_row(connection, run_id)
    assert (row["status"], row["attempt"]) == ("queued", 1)
    assert row["not_before"] > datetime.now(UTC)
    async with connection.transaction():
        assert await runs.claim_next(connection, "test", "0") is None
    assert await executed(pool, settings, run_id, transform_and_load=fails) is RunStatus.FAILED
    assert (await run_row(connection, run_id))["status"] == "failed"


async def test_runs_of_a_backfill_wait_behind_what_is_asked_for_later(connection: Connection) -> None:
    backfill = Backfill("inventory_etl", THE_DAY.start, THE_DAY.start + timedelta(days=3), Which.ALL, "test")
    async with connection.transaction():
        filled = await runs.fill(connection, backfill)
    async with connection.transaction():
        scheduled = await runs.start(connection, a_request(job="low_stock_alerts"))

    async with connection.transaction():
        claimed = [await runs.claim_next(connection, "test", "0") for _ in range(2)]

    assert len(filled.run_ids) == 3
    assert [each and each.run_id for each in claimed] == [scheduled.run_id, filled.run_ids[THE_DAY]]


async def test_many_runs_of_a_backfill_take_no_more_statements_than_few(connection: Connection) -> None:
    async def statements(days: int) -> int:
        asked: list[object] = []
        backfill = Backfill("inventory_etl", THE_DAY.start, THE_DAY.start + timedelta(days), Which.ALL, "test")
        with connection.query_logger(asked.append):
            async with connection.transaction():
                assert len((await runs.fill(connection, backfill)).run_ids) == days
        return len(asked)

    assert await statements(2) == await statements(20)


async def test_only_what_failed_is_retried_and_only_what_goes_on_is_cancelled(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    run_id = await start(pool)
    with pytest.raises(NotRetryable):
        await runs.retry(connection, run_id)
    await executed(pool, settings, run_id)

    with pytest.raises(NotRetryable):
        await runs.retry(connection, run_id)
    with pytest.raises(NotCancellable):
        await runs.cancel(connection, run_id, "me")


async def test_a_queued_run_is_cancelled_at_once(pool: Pool, connection: Connection) -> None:
    run_id = await start(pool)

    async with connection.transaction():
        await runs.cancel(connection, run_id, "me")

    assert (await run_row(connection, run_id))["status"] == "cancelled"
    assert await start(pool) != run_id


async def test_a_running_run_is_cancelled(pool: Pool, settings: Settings, connection: Connection) -> None:
    run_id = await start(pool)
    running = asyncio.create_task(executed(pool, settings, run_id, transform_and_load=never_ends))
    while (await step_statuses(connection, run_id))["transform_and_load"] != "running":
        await asyncio.sleep(0.01)

    async with connection.transaction():
        await runs.cancel(connection, run_id, "me")

    assert await running is RunStatus.CANCELLED
    assert (await run_row(connection, run_id))["error"] == "cancelled by me"
    assert (await step_statuses(connection, run_id))["transform_and_load"] == "cancelled"


async def test_an_interrupted_run_waits_to_go_on(pool: Pool, settings: Settings, connection: Connection) -> None:
    run_id = await start(pool)
    running = asyncio.create_task(executed(pool, settings, run_id, transform_and_load=never_ends))
    while (await step_statuses(connection, run_id))["transform_and_load"] != "running":
        await asyncio.sleep(0.01)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (await run_row(connection, run_id))["status"] == "queued"
    assert await executed(pool, settings, run_id, extract_inventory_data=fails) is RunStatus.SUCCEEDED


async def test_an_interruption_costs_neither_an_attempt_nor_time(connection: Connection, pool: Pool) -> None:
    run_id = await start(pool, a_request(max_attempts=2))
    await claim_and_begin(pool, run_id)

    async with connection.transaction():
        await runs.end(connection, run_id, 1, RunStatus.QUEUED, runs.INTERRUPTED)
        assert await runs.claim_next(connection, "test", "0") is not None
    became = []
    for attempt in (2, 3):
        async with connection.transaction():
            await runs.end(connection, run_id, attempt, RunStatus.FAILED, "no such luck")
        became.append((await run_row(connection, run_id))["status"])
        if attempt == 2:
            await claim(pool, run_id)

    assert became == ["queued", "failed"]


async def test_an_interrupted_run_whose_end_was_asked_for_is_cancelled(connection: Connection, pool: Pool) -> None:
    claimed = await claim_and_begin(pool, await start(pool))

    async with connection.transaction():
        await runs.cancel(connection, claimed.run_id, "me")
        await runs.end(connection, claimed.run_id, claimed.attempt, RunStatus.QUEUED, runs.INTERRUPTED)

    assert (await run_row(connection, claimed.run_id))["status"] == "cancelled"
    assert set((await step_statuses(connection, claimed.run_id)).values()) == {"cancelled", "skipped"}


async def test_a_run_goes_on_and_forgets_nothing_when_a_sign_of_life_cannot_be_given(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    said = 0
    is_over = asyncio.Event()

    async def talks(context: Context) -> StepResult:
        nonlocal said
        while not is_over.is_set():
            context.log("still.here")
            said += 1
            await asyncio.sleep(0.02)
        return StepResult()

    run_id = await start(pool)
    running = asyncio.create_task(executed(pool, settings, run_id, extract_inventory_data=talks))
    await begun(connection, run_id, "extract_inventory_data")
    await without_logs(connection)
    is_over.set()

    assert await running is RunStatus.SUCCEEDED
    lines = [line["event"] for line in await run_queries.logs_of(connection, run_id, 1000)]
    assert lines.count("still.here") == said


async def test_a_run_ends_when_it_must_be_taken_for_lost(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    impatient = settings.model_copy(update={"batch_lost_seconds": 0.1})
    run_id = await start(pool)

    async def talks_for_ever(context: Context) -> StepResult:
        while True:
            context.log("still.here")
            await asyncio.sleep(0.02)

    running = asyncio.create_task(executed(pool, impatient, run_id, extract_inventory_data=talks_for_ever))
    await begun(connection, run_id, "extract_inventory_data")
    await without_logs(connection)

    async with asyncio.timeout(10):
        with pytest.raises(asyncpg.LockNotAvailableError):
            await running


async def begun(connection: Connection, run_id: UUID, step: str) -> None:
    """Wait until a step is running."""
    async with asyncio.timeout(60):
        while (await step_statuses(connection, run_id))[step] != "running":
            await asyncio.sleep(0.01)


async def without_logs(connection: Connection) -> None:
    """Lock the log for so long that a sign of life, with which lines are stored, fails."""
    async with connection.transaction():
        await connection.execute("LOCK TABLE run_log IN EXCLUSIVE MODE")
        await asyncio.sleep(2.5)


async def test_a_run_without_signs_of_life_is_found_and_its_late_process_is_fenced(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    run_id = await start(pool)
    go_on = asyncio.Event()

    async def sleeps(_context: Context) -> StepResult:
        await go_on.wait()
        return StepResult(rows_out=1)

    # The step itself, not a sign of life, is the first to hear of it.
    silent = settings.model_copy(update={"batch_heartbeat_seconds": 600})
    zombie = asyncio.create_task(executed(pool, silent, run_id, extract_inventory_data=sleeps))
    await begun(connection, run_id, "extract_inventory_data")

    async with connection.transaction():
        assert await runs.end_lost(connection, silent_seconds=60) == []
        assert len(await runs.end_lost(connection, silent_seconds=-60)) == 1
        await runs.retry(connection, run_id)
    assert await executed(pool, settings, run_id) is RunStatus.SUCCEEDED
    go_on.set()

    with pytest.raises(Fenced):
        await zombie
    assert (await run_queries.steps_of(connection, [run_id]))[0]["rows_out"] == 0


async def test_a_run_that_is_lost_before_its_first_step_has_lost_no_attempt(pool: Pool, connection: Connection) -> None:
    run_id = await start(pool)
    await claim(pool, run_id)
    async with connection.transaction():
        assert len(await runs.end_lost(connection, silent_seconds=-60)) == 1
    assert (await run_row(connection, run_id))["status"] == "queued"

    second = await claim_and_begin(pool, run_id)
    async with connection.transaction():
        assert len(await runs.end_lost(connection, silent_seconds=-60)) == 1

    assert second.attempt == 2
    assert (await run_row(connection, run_id))["status"] == "failed"


async def test_a_lost_run_of_a_job_that_is_not_known_here_is_ended_all_the_same(
    pool: Pool, connection: Connection
) -> None:
    claimed = await claim_and_begin(pool, await start(pool, a_request(max_attempts=2)))
    await connection.execute("UPDATE run SET job = 'renamed'")

    async with connection.transaction():
        assert len(await runs.end_lost(connection, silent_seconds=-60)) == 1

    assert (await run_row(connection, claimed.run_id))["status"] == "queued"


async def test_a_job_runs_no_more_often_at_a_time_than_its_limit(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    next_day = Interval(THE_DAY.end, datetime(2026, 1, 7, 2, tzinfo=UTC))
    first, second = [
        await start(pool, a_request(job="transaction_aggregation", interval=each)) for each in (THE_DAY, next_day)
    ]
    async with connection.transaction():
        taken = await runs.claim_next(connection, "one", "0")
        assert await runs.claim_next(connection, "two", "0") is None
    assert taken is not None
    assert taken.run_id == first

    await execution(pool, settings, taken, {}).run()

    async with connection.transaction():
        taken = await runs.claim_next(connection, "two", "0")
    assert taken is not None
    assert taken.run_id == second


async def test_what_a_step_tells_is_kept(pool: Pool, settings: Settings, connection: Connection) -> None:
    async def talks(context: Context) -> StepResult:
        context.progress(3, 10)
        context.log("rows.read", rows=3)
        return StepResult()

    run_id = await start(pool)
    await executed(pool, settings, run_id, extract_inventory_data=talks, data_quality_check=fails)

    lines = await run_queries.logs_of(connection, run_id, 1000)
    assert ("extract_inventory_data", "rows.read", {"rows": 3}) in [
        (line["step"], line["event"], line["fields"]) for line in lines
    ]
    assert [line["event"] for line in lines][:1] == ["run.started"]
    assert "no such luck" in next(line for line in lines if line["event"] == "step.failed")["fields"]["traceback"]
    step = (await run_queries.steps_of(connection, [run_id]))[0]
    assert (step["progress_done"], step["progress_total"]) == (3, 10)
    assert step["cpu_seconds"] >= 0
    assert step["peak_memory_bytes"] > 0
