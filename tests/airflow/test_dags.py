"""The generated DAGs say what `schedules.yaml` says, and run against the live pipeline."""

import ast
import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from libs.chassis.database import Connection, own_connection
from services.pipeline.jobs import runs
from services.pipeline.jobs.job import Interval, jobs
from services.pipeline.jobs.run import RunRequest
from tests.airflow.environment import DAGS, Airflow
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.stack import ROOT, Database

SOME_TIME = datetime(2026, 1, 5, 12, 7, tzinfo=UTC)
INTERVALS = 3
EXAMPLE = ROOT / "deploy" / "airflow" / "examples" / "backfill_in_a_pod.py"
WEEK = {"interval_start": "2026-01-01T00:00:00Z", "interval_end": "2026-01-08T00:00:00Z"}
RESULTS = ("daily_snapshot", "daily_metric", "movement_aggregate")
HOURLY = "transaction_aggregation"
SUCCESSES = {job.id: dict.fromkeys((step.name for step in job.steps), "success") for job in jobs().values()}


@pytest.fixture
async def described(airflow: Airflow) -> Any:
    return await airflow.ask("describe", SOME_TIME.isoformat(), str(INTERVALS))


async def post_a_week(database: Database) -> None:
    """The only entries of the ledger."""
    await ledger.empty(database)
    await ledger.post(database, [on(1, 50, "OPENING_BALANCE"), *(on(day, -day) for day in (2, 3, 5))])


async def results(database: Database) -> dict[str, list[str]]:
    """All rows that jobs have computed, without when they did."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        return {
            table: [row[0] for row in await connection.fetch(f"SELECT t::text FROM pipeline.{table} AS t ORDER BY 1")]
            for table in RESULTS
        }
    finally:
        await connection.close()


async def lose_results(database: Database) -> None:
    """Delete all rows that jobs have computed."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        for table in RESULTS:
            await connection.execute(f"DELETE FROM pipeline.{table}")
    finally:
        await connection.close()


async def grant(database: Database, statement: str) -> None:
    """Take a right away, or give it back."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def until(connection: Connection, condition: str, *arguments: object) -> None:
    """Wait until a query finds something."""
    async with asyncio.timeout(300):
        while await connection.fetchval(condition, *arguments) is None:
            await asyncio.sleep(0.1)


async def fail_a_run_of_the_whole_job(database: Database) -> None:
    """Somebody's run of the hourly job over the week: it begins once a task is attached to it, and its last step fails.

    The task's own key is what tells that it is attached.
    """
    week = Interval(*map(datetime.fromisoformat, WEEK.values()))
    async with own_connection(database.url("pipeline"), application_name="test") as connection:
        async with connection.transaction():
            run_id = (await runs.start(connection, RunRequest(HOURLY, week, "somebody"))).run_id
            await connection.execute("UPDATE run SET not_before = now() + interval '1 h' WHERE run_id = $1", run_id)
        await until(connection, "SELECT run_id FROM run_request WHERE run_id = $1", run_id)
        await grant(database, "REVOKE INSERT ON pipeline.movement_aggregate FROM stockflow_pipeline")
        await connection.execute("UPDATE run SET not_before = now() WHERE run_id = $1", run_id)
        await until(connection, "SELECT run_id FROM run WHERE run_id = $1 AND status = 'failed'", run_id)
        await grant(database, "GRANT INSERT ON pipeline.movement_aggregate TO stockflow_pipeline")


@pytest.fixture(scope="module")
async def tested(
    connected_airflow: Airflow, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What became of every DAG over the week, and at last of the hourly one without an interval.

    In two processes side by side, because Airflow takes long. The hourly one finds a run of its whole job waiting.
    """
    await post_a_week(database)
    other = connected_airflow.copied_to(tmp_path_factory.mktemp("airflow"))
    wanted = [json.dumps([dag_id, WEEK]) for dag_id in jobs()]
    half = len(wanted) // 3
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail_a_run_of_the_whole_job(database))
        first = tasks.create_task(connected_airflow.ask("test", *wanted[:half], *wanted[-half:]))
        second = tasks.create_task(other.ask("test", *wanted[half:-half], json.dumps([HOURLY, {}])))
    return [*first.result(), *second.result()]


def test_a_dag_file_imports_nothing_of_ours_and_nothing_heavy() -> None:
    [file] = DAGS.glob("*.py")
    imported = set()
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import(names=names):
                imported |= {name.name.partition(".")[0] for name in names}
            case ast.ImportFrom(module=module):
                imported.add(str(module).partition(".")[0])
    assert imported - sys.stdlib_module_names == {"airflow", "httpx", "yaml"}


async def test_each_job_is_a_dag_with_the_same_schedule_steps_and_limits(described: Any) -> None:
    assert described["errors"] == {}
    assert described["dags"] == {
        job.id: {
            "timetable": "CronDataIntervalTimetable",
            "schedule": job.cron,
            "intervals": [
                [each.start.isoformat(), each.end.isoformat()]
                for each in job.intervals(SOME_TIME, SOME_TIME + timedelta(days=40))[:INTERVALS]
            ],
            "steps": {step.name: sorted(step.after) for step in job.steps},
            "retries": [job.retries],
            "max_active_runs": job.max_parallel_runs,
            "catchup": False,
        }
        for job in jobs().values()
    }


@pytest.mark.timeout(600)
async def test_every_dag_has_the_pipeline_compute_its_interval(tested: Any, database: Database) -> None:
    assert {run["dag"]: run["tasks"] for run in tested[:-1]} == SUCCESSES
    assert all((await results(database)).values())


@pytest.mark.timeout(600)
async def test_a_dag_refuses_to_guess_an_interval(tested: Any) -> None:
    assert tested[-1]["tasks"] == {"aggregate_transactions": "failed", "load_aggregates": "upstream_failed"}


@pytest.mark.timeout(600)
async def test_a_task_attached_to_a_run_of_the_whole_job_ends_as_its_own_step(tested: Any, database: Database) -> None:
    connection = await asyncpg.connect(database.superuser_url)
    try:
        steps = await connection.fetch(
            """
            SELECT requested_by, step, run_step.status FROM pipeline.run JOIN pipeline.run_step USING (run_id)
             WHERE run.job = $1 ORDER BY requested_at, position
            """,
            HOURLY,
        )
    finally:
        await connection.close()

    assert list(map(tuple, steps)) == [
        ("somebody", "aggregate_transactions", "succeeded"),
        ("somebody", "load_aggregates", "failed"),
        ("airflow", "load_aggregates", "succeeded"),
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_pod_of_the_example_is_given_a_command_that_exists(
    airflow: Airflow, variables: dict[str, str]
) -> None:
    params = {"job": "inventory_etl", "start": "2026-02-01", "end": "2026-02-04", "which": "missing"}
    arguments = await airflow.ask("pod_arguments", str(EXAMPLE), json.dumps(params))

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *arguments, "--dry-run"),
        cwd=ROOT,
        env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()

    assert output.decode().splitlines() == [
        "[2026-02-01T02:00:00Z, 2026-02-02T02:00:00Z)",
        "[2026-02-02T02:00:00Z, 2026-02-03T02:00:00Z)",
    ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_every_dag_runs_again_with_equal_rows(
    tested: Any, connected_airflow: Airflow, database: Database
) -> None:
    rows = await results(database)
    await lose_results(database)

    again = await connected_airflow.ask("test", *(json.dumps([dag_id, WEEK]) for dag_id in jobs()))
    rows_again = await results(database)
    in_full = await connected_airflow.ask("test", *(json.dumps([dag_id, WEEK | {"full": True}]) for dag_id in jobs()))

    assert {run["dag"]: run["tasks"] for run in again} == {run["dag"]: run["tasks"] for run in in_full} == SUCCESSES
    assert rows_again == rows
    assert await results(database) == rows
