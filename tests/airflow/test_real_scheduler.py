"""Airflow as a company runs it, with API server, scheduler and DAG processor, against the live pipeline."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.services import answers
from deploy.local.supervisor import Program, Supervisor, always_ready
from services.pipeline.jobs.job import Interval, find
from tests.airflow.environment import INSTALLED, Airflow
from tests.airflow.test_dags import grant, lose_results, post_a_week, results
from tests.stack import Database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

DAILY, HOURLY, LOAD = "inventory_etl", "transaction_aggregation", "load_aggregates"
WEEK_END = datetime(2026, 1, 8, tzinfo=UTC)
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)
OVER = {"success", "failed"}
AIRFLOWS_OWN = "airflow"
DAILY_RESULTS = ("daily_snapshot", "daily_metric")
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Company:
    """A running Airflow: its commands, its REST API, and the database of the pipeline that it talks to."""

    airflow: Airflow
    http: httpx.AsyncClient
    database: Database

    async def dag_runs(self, dag: str, run_type: str) -> list[dict[str, Any]]:
        """The runs of a DAG of one type, the oldest interval first."""
        answer = await self.http.get(f"/api/v2/dags/{dag}/dagRuns", params={"run_type": run_type, "limit": 100})
        return sorted(answer.raise_for_status().json()["dag_runs"], key=lambda run: run["data_interval_start"] or "")

    async def until_over(self, dag: str, run_type: str, count: int) -> list[dict[str, Any]]:
        """The runs of that type once there are so many and all are over."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                runs = await self.dag_runs(dag, run_type)
                if len(runs) >= count and all(run["state"] in OVER for run in runs):
                    return runs
                await asyncio.sleep(POLL_SECONDS)

    async def unpause(self, dag: str) -> None:
        """Switch a DAG on, as soon as Airflow knows it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await self.http.patch(f"/api/v2/dags/{dag}", json={"is_paused": False})).status_code == 404:
                await asyncio.sleep(POLL_SECONDS)

    async def tries(self, dag: str, run_id: str) -> dict[str, int]:
        """Task -> how often it was tried."""
        answer = await self.http.get(f"/api/v2/dags/{dag}/dagRuns/{run_id}/taskInstances")
        return {task["task_id"]: task["try_number"] for task in answer.raise_for_status().json()["task_instances"]}

    async def ledger(self, job: str, start: datetime, end: datetime) -> list[tuple[Interval, str, str]]:
        """(interval, step, status) of the pipeline's runs of a job within that time, in the order of their requests."""
        connection = await asyncpg.connect(self.database.superuser_url)
        try:
            rows = await connection.fetch(
                """
                SELECT run_step.interval_start, run_step.interval_end, step, run_step.status
                  FROM pipeline.run JOIN pipeline.run_step USING (run_id)
                 WHERE run.job = $1 AND run.interval_start >= $2 AND run.interval_end <= $3 ORDER BY requested_at
                """,
                job,
                start,
                end,
            )
        finally:
            await connection.close()
        return [(Interval(row["interval_start"], row["interval_end"]), row["step"], row["status"]) for row in rows]


def of_january(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    """What the daily job has computed of the week; scheduled runs are about other dates."""
    return {table: [row for row in rows[table] if row.startswith("(2026-01-")] for table in DAILY_RESULTS}


@pytest.fixture(scope="module")
async def company(
    connected_airflow: Airflow, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Company]:
    port = free_ports(1)[0]
    await database.servers.create_database(AIRFLOWS_OWN)
    own_url = database.servers.postgres_url(AIRFLOWS_OWN).replace("postgresql:", "postgresql+psycopg2:", 1)
    airflow = Airflow(
        connected_airflow.home,
        {
            **connected_airflow.environment,
            # Several processes write to it, which SQLite refuses now and then.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": own_url,
            "AIRFLOW__API__HOST": LOOPBACK,
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(48),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{LOOPBACK}:{port}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        },
    )
    await airflow.command("db", "migrate")
    logs = tmp_path_factory.mktemp("logs")

    def part(*arguments: str, ready: Callable[[], Awaitable[None]] = always_ready) -> Program:
        argv = (str(INSTALLED / "bin" / "airflow"), *arguments)
        log = logs / f"{arguments[0]}.log"
        return Program(arguments[0], argv, log, ready, env=airflow.environment, directory=airflow.home)

    async with Supervisor() as supervisor, httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=60) as http:
        await supervisor.start(part("api-server", ready=answers(port, "/api/v2/monitor/health")))
        await supervisor.start(part("scheduler", "--skip-serve-logs"), part("dag-processor"))
        token = (await http.get("/auth/token")).raise_for_status().json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        company = Company(airflow, http, database)
        await company.unpause(DAILY)
        await company.unpause(HOURLY)
        yield company


async def test_a_dag_that_is_switched_on_runs_over_its_latest_interval(company: Company) -> None:
    [run] = (await company.until_over(HOURLY, "scheduled", 1))[:1]

    began = datetime.fromisoformat(run["data_interval_start"])
    expected = Interval(began, began + timedelta(hours=1))
    assert expected in find(HOURLY).intervals(began, began + timedelta(hours=1))
    assert run["state"] == "success"
    assert await company.ledger(HOURLY, expected.start, expected.end) == [
        (expected, step.name, "succeeded") for step in find(HOURLY).steps
    ]


async def test_a_run_by_hand_covers_what_it_is_told_and_fails_without_an_interval(company: Company) -> None:
    conf = {"interval_start": "2026-02-01T00:00:00Z", "interval_end": "2026-02-03T00:00:00Z"}

    await company.airflow.command("dags", "trigger", HOURLY, "--run-id", "told", "--conf", json.dumps(conf))
    await company.airflow.command("dags", "trigger", HOURLY, "--run-id", "untold")
    # The trap: Airflow takes the interval before this instant, not the one that begins there.
    await company.airflow.command(
        "dags", "trigger", HOURLY, "--run-id", "guessed", "--logical-date", "2026-02-01T00:05:00Z"
    )
    runs = await company.until_over(HOURLY, "manual", 3)

    assert {run["dag_run_id"]: run["state"] for run in runs} == {
        "told": "success",
        "untold": "failed",
        "guessed": "failed",
    }
    told = Interval(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 3, tzinfo=UTC))
    asked_for = await company.ledger(HOURLY, datetime(2026, 1, 31, tzinfo=UTC), told.end)
    assert asked_for == [(told, step.name, "succeeded") for step in find(HOURLY).steps]
    assert set((await company.tries(HOURLY, "untold")).values()) <= {0, 1}, "what can never work is not tried again"


async def test_a_week_is_filled_in_order_and_cleared_runs_compute_equal_rows(
    company: Company, database: Database
) -> None:
    await post_a_week(database)
    week = find(DAILY).intervals(MIDNIGHT + timedelta(hours=2), MIDNIGHT + timedelta(days=7, hours=2))
    first, last = week[0].start.isoformat(), week[-1].start.isoformat()

    await company.airflow.command(
        *("backfill", "create", "--dag-id", DAILY, "--from-date", first, "--to-date", last, "--max-active-runs", "1")
    )
    filled = await company.until_over(DAILY, "backfill", len(week))
    rows = await results(database)
    asked_for = await company.ledger(DAILY, MIDNIGHT, week[-1].end)
    await lose_results(database)
    await company.airflow.command("tasks", "clear", DAILY, "--yes", "--start-date", first, "--end-date", last)
    await company.until_over(DAILY, "backfill", len(week))

    assert [run["state"] for run in filled] == ["success"] * 7
    assert list(dict.fromkeys(interval for interval, _, _ in asked_for)) == week
    assert all(of_january(rows).values())
    assert {status for _, _, status in asked_for} == {"succeeded"}
    again = await company.ledger(DAILY, MIDNIGHT, week[-1].end)
    assert len(again) == 2 * len(asked_for) == 2 * len(week) * len(find(DAILY).steps)
    assert of_january(await results(database)) == of_january(rows)


async def test_a_step_that_fails_is_tried_again_by_airflow(company: Company, database: Database) -> None:
    conf = {"interval_start": "2026-01-01T00:00:00Z", "interval_end": "2026-01-08T00:00:00Z", "full": True}
    await post_a_week(database)
    await grant(database, "REVOKE INSERT ON pipeline.movement_aggregate FROM stockflow_pipeline")

    await company.airflow.command("dags", "trigger", HOURLY, "--run-id", "injected", "--conf", json.dumps(conf))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any(status == "failed" for _, _, status in await company.ledger(HOURLY, MIDNIGHT, WEEK_END)):
            await asyncio.sleep(POLL_SECONDS)
    await grant(database, "GRANT INSERT ON pipeline.movement_aggregate TO stockflow_pipeline")
    runs = await company.until_over(HOURLY, "manual", 1)

    assert {run["dag_run_id"]: run["state"] for run in runs}["injected"] == "success"
    tries = await company.tries(HOURLY, "injected")
    assert tries["aggregate_transactions"] == 1
    assert tries[LOAD] > 1
    statuses = [status for _, step, status in await company.ledger(HOURLY, MIDNIGHT, WEEK_END) if step == LOAD]
    assert statuses == ["failed"] * (tries[LOAD] - 1) + ["succeeded"]
    assert (await results(database))["movement_aggregate"]
