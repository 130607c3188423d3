"""A job is killed in the middle of each step: readers see the old or the new, and its retry ends as if it had lived."""

import asyncio
import os
import signal
import sys
from uuid import UUID

import pytest

from libs.chassis.database import Connection, Pool
from services.pipeline.jobs import runs
from services.pipeline.jobs.execution import Execution
from services.pipeline.jobs.job import jobs
from services.pipeline.jobs.run import RunStatus
from services.pipeline.settings import Settings
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.pipeline.batch.scenarios import SCENARIOS, Scenario, State, World, empty, run
from tests.pipeline.batch.test_runs import claim, run_row, step_statuses
from tests.stack import ROOT, Database

PLACES = {
    # place -> what is done there, and the step that dies
    "ledger_entries.committed": ("inventory_etl", "extract_inventory_data"),
    "item_days.committed": ("inventory_etl", "transform_and_load"),
    "daily_snapshot.in_lake": ("inventory_etl", "transform_and_load"),
    "daily_snapshot.copied": ("inventory_etl", "transform_and_load"),
    "daily_snapshot.inserted": ("inventory_etl", "transform_and_load"),
    "daily_snapshot.committed": ("inventory_etl", "transform_and_load"),
    "daily_metric.in_lake": ("inventory_etl", "generate_aggregated_metrics"),
    "daily_metric.inserted": ("inventory_etl", "generate_aggregated_metrics"),
    "daily_metric.committed": ("inventory_etl", "generate_aggregated_metrics"),
    "copies.compared": ("inventory_etl", "data_quality_check"),
    "movement_aggregate.in_lake": ("transaction_aggregation", "aggregate_transactions"),
    "movement_aggregate.copied": ("transaction_aggregation", "load_aggregates"),
    "movement_aggregate.inserted": ("transaction_aggregation", "load_aggregates"),
    "movement_aggregate.committed": ("transaction_aggregation", "load_aggregates"),
    "alerts.followed": ("low_stock_alerts", "check_low_stock"),
    "alerts.enqueued": ("low_stock_alerts", "send_notifications"),
    "alerts.announced": ("low_stock_alerts", "send_notifications"),
    "alerts.mailed": ("low_stock_alerts", "send_notifications"),
    "alerts.told": ("low_stock_alerts", "send_notifications"),
    "week.replaced": ("weekly_summary", "aggregate_week"),
    "week.calculated": ("weekly_summary", "calculate_weekly_metrics"),
    "report.stored": ("weekly_summary again", "generate_reports"),
    "report.committed": ("weekly_summary", "generate_reports"),
    "report.published": ("weekly_summary", "update_dashboards"),
    "report.mailed": ("weekly_summary", "update_dashboards"),
    "lake.rewritten": ("lake_maintenance", "maintain_lake"),
    "lake.day_rewritten": ("lake_maintenance", "maintain_lake"),
    "lake.vacuumed": ("lake_maintenance", "maintain_lake"),
    "partition.created": ("partition_maintenance", "create_partitions"),
    "partition.committed": ("partition_maintenance", "create_partitions"),
    "facts.dropped": ("partition_maintenance", "drop_old_facts"),
    "alerts.deleted": ("partition_maintenance", "delete_old_alerts"),
    "run_log.deleted": ("partition_maintenance", "delete_old_runs"),
}
QUICK = ("daily_snapshot.inserted", "alerts.mailed")


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """What a process with these settings is started with."""
    return {
        **os.environ,
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "MONGO_URL": settings.mongo_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "LAKE_URL": settings.lake_url,
        "AUTH_MODE": "off",
        **more,
    }


async def run_until_killed(settings: Settings, scenario: Scenario, place: str) -> None:
    """Run the job in a process of its own, which dies at the place."""
    interval = ("--from", scenario.interval.start.isoformat(), "--to", scenario.interval.end.isoformat())
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.pipeline.jobs", "run", scenario.job, *interval),
        cwd=ROOT,
        env=environment(settings, STOCKFLOW_FAILPOINTS=f"batch.{place}=1", **scenario.variables),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()
    assert process.returncode == -signal.SIGKILL, told.decode()


async def unkilled(world: World, scenario: Scenario) -> State:
    """What readers see after a run that nothing happens to."""
    await scenario.old(world)
    await scenario.change(world)
    await run(world.pool, world.settings, scenario.job, scenario.interval)
    return await scenario.seen(world)


def assert_old_or_new(found: State, old: State, new: State) -> None:
    """Each partition is whole, as it was or as it will be: also those that the reader has not found."""
    for partition in old.keys() | new.keys() | found.keys():
        assert found.get(partition) in (old.get(partition), new.get(partition)), partition


@pytest.mark.parametrize(
    "place", [*QUICK, *(pytest.param(p, marks=pytest.mark.slow) for p in PLACES if p not in QUICK)]
)
async def test_a_killed_job_leaves_the_old_or_the_new_and_its_retry_ends_as_if_it_had_lived(
    pool: Pool, settings: Settings, connection: Connection, database: Database, place: str
) -> None:
    name, step = PLACES[place]
    scenario = SCENARIOS[name]
    world = scenario.world(pool, connection, database, settings)
    expected = await unkilled(world, scenario)
    await scenario.old(world)
    old = await scenario.seen(world)
    await scenario.change(world)

    await run_until_killed(settings, scenario, place)
    at_death = await scenario.seen(world)
    async with connection.transaction():
        assert len(await runs.end_lost(connection, silent_seconds=-60)) == 1
    killed: UUID = await connection.fetchval("SELECT run_id FROM run WHERE status = 'failed'")
    assert (await run_row(connection, killed))["error"] == runs.LOST
    assert (await step_statuses(connection, killed))[step] == "failed"
    async with connection.transaction():
        await runs.retry(connection, killed)
    assert await Execution(await claim(pool, killed), pool, world.settings).run() is RunStatus.SUCCEEDED

    assert_old_or_new(at_death, old, expected)
    assert await scenario.seen(world) == expected
    assert old != expected


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
async def test_who_reads_while_a_job_runs_sees_the_old_or_the_new(
    pool: Pool, settings: Settings, connection: Connection, database: Database, name: str
) -> None:
    scenario = SCENARIOS[name]
    world = scenario.world(pool, connection, database, settings)
    await scenario.old(world)
    old = await scenario.seen(world)
    await scenario.change(world)
    found = []

    running = asyncio.create_task(run(pool, world.settings, scenario.job, scenario.interval))
    while not running.done():
        found.append(await scenario.seen(world))
    await running

    new = await scenario.seen(world)
    for state in found:
        assert_old_or_new(state, old, new)
    assert len(found) > 1
    assert old != new


def test_every_step_is_killed_somewhere() -> None:
    killed = {(SCENARIOS[name].job, step) for name, step in PLACES.values()}

    assert killed == {(job.id, step.name) for job in jobs().values() for step in job.steps}


async def test_what_was_loaded_is_marked_for_new_metrics_though_the_job_is_killed_at_once(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    scenario = SCENARIOS["transaction_aggregation"]
    await empty(scenario.world(pool, connection, database, settings))
    await ledger.post(database, [on(1, 50, "OPENING_BALANCE"), on(2, -3)])
    await connection.execute("""
        INSERT INTO daily_movement (sku, warehouse_id, date, transaction_type, entries, units_in, units_out, value,
                                    last_event_at)
        VALUES ('A', 'X', '2026-01-02', 'SALE', 1, 0, 3, 0, now())
    """)

    await run_until_killed(settings, scenario, "movement_aggregate.committed")

    assert await connection.fetchval("SELECT count(*) FROM movement_aggregate") > 0
    marked = await connection.fetch("SELECT DISTINCT sku, warehouse_id FROM dirty_stock_item")
    assert [tuple(row) for row in marked] == [("A", "X")]
