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

from services.pipeline.jobs.job import jobs
from tests.airflow.environment import DAGS, Airflow
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.stack import ROOT, Database

SOME_TIME = datetime(2026, 1, 5, 12, 7, tzinfo=UTC)
INTERVALS = 3
EXAMPLE = ROOT / "deploy" / "airflow" / "examples" / "backfill_in_a_pod.py"
WEEK = {"interval_start": "2026-01-01T00:00:00Z", "interval_end": "2026-01-08T00:00:00Z"}
RESULTS = ("daily_snapshot", "daily_metric", "movement_aggregate")


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
async def test_a_dag_has_the_pipeline_compute_an_interval_and_refuses_to_guess_one(
    connected_airflow: Airflow, database: Database
) -> None:
    await post_a_week(database)

    computed, nothing = await connected_airflow.ask(
        "test", json.dumps(["transaction_aggregation", WEEK]), json.dumps(["transaction_aggregation", {}])
    )

    assert computed["state"] == "success"
    assert (await results(database))["movement_aggregate"]
    assert nothing["tasks"] == {"aggregate_transactions": "failed", "load_aggregates": "upstream_failed"}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_pod_of_the_example_is_given_a_command_that_exists(
    airflow: Airflow, variables: dict[str, str]
) -> None:
    params = {"job": "inventory_etl", "start": "2026-01-01", "end": "2026-01-04", "which": "missing"}
    arguments = await airflow.ask("pod_arguments", str(EXAMPLE), json.dumps(params))

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *arguments, "--dry-run"),
        cwd=ROOT,
        env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()

    assert output.decode().splitlines() == [
        "[2026-01-01T02:00:00Z, 2026-01-02T02:00:00Z)",
        "[2026-01-02T02:00:00Z, 2026-01-03T02:00:00Z)",
    ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_every_dag_runs_twice_with_equal_rows(connected_airflow: Airflow, database: Database) -> None:
    await post_a_week(database)
    dags = [json.dumps([dag_id, WEEK]) for dag_id in jobs()]
    dags_in_full = [json.dumps([dag_id, WEEK | {"full": True}]) for dag_id in jobs()]

    first = await connected_airflow.ask("test", *dags)
    rows = await results(database)
    again = await connected_airflow.ask("test", *dags_in_full)

    steps = {job.id: dict.fromkeys((step.name for step in job.steps), "success") for job in jobs().values()}
    assert {run["dag"]: run["tasks"] for run in first} == steps
    assert {run["dag"]: run["tasks"] for run in again} == steps
    assert all(rows.values())
    assert await results(database) == rows
