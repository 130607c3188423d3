"""A job is killed in the middle of each step: readers see whole partitions, and a retry ends with equal rows."""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from libs.chassis.database import Connection, Pool
from services.pipeline.jobs import runs
from services.pipeline.jobs.execution import Execution
from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.run import RunRequest, RunStatus
from services.pipeline.settings import Settings
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.pipeline.batch.test_inventory_etl import OUTPUTS, empty_outputs
from tests.pipeline.batch.test_runs import claim, run_row, start
from tests.stack import ROOT, Database

INTERVAL = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 7, tzinfo=UTC))
PLACES = {
    "ledger_entries.committed": "inventory_etl",
    "item_days.committed": "inventory_etl",
    "daily_snapshot.in_lake": "inventory_etl",
    "daily_snapshot.copied": "inventory_etl",
    "daily_snapshot.inserted": "inventory_etl",
    "daily_snapshot.committed": "inventory_etl",
    "daily_metric.in_lake": "inventory_etl",
    "daily_metric.inserted": "inventory_etl",
    "daily_metric.committed": "inventory_etl",
    "movement_aggregate.in_lake": "transaction_aggregation",
    "movement_aggregate.copied": "transaction_aggregation",
    "movement_aggregate.inserted": "transaction_aggregation",
    "movement_aggregate.committed": "transaction_aggregation",
}
QUICK = ("daily_snapshot.inserted",)

Partitions = dict[tuple[str, Any], list[Any]]


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


async def run(pool: Pool, settings: Settings, job: str) -> UUID:
    run_id = await start(pool, RunRequest(job, INTERVAL, "test"))
    assert await Execution(await claim(pool, run_id), pool, settings).run() is RunStatus.SUCCEEDED
    return run_id


async def run_until_killed(settings: Settings, job: str, place: str) -> None:
    """Run the job in a process of its own, which dies at the place."""
    interval = ("--from", "2026-01-01", "--to", "2026-01-07")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.pipeline.jobs", "run", job, *interval),
        cwd=ROOT,
        env=environment(settings, STOCKFLOW_FAILPOINTS=f"batch.{place}=1"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()
    assert process.returncode == -signal.SIGKILL, told.decode()


async def partitions(connection: Connection, settings: Settings) -> Partitions:
    """(store and dataset, date) -> the rows of each partition that readers see."""
    visible: Partitions = {}
    for table in (*OUTPUTS, "movement_aggregate"):
        for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4, 5"):
            visible.setdefault((table, row["date"]), []).append(tuple(row))
    for dataset in ("ledger_entries", "item_days", *OUTPUTS, "movement_aggregate"):
        url = f"{settings.lake_url}/batch/{dataset}"
        if DeltaTable.is_deltatable(url):
            rows = DeltaTable(url).to_pyarrow_table()
            stable = rows.drop_columns([name for name in rows.column_names if pa.types.is_timestamp(rows[name].type)])
            for stored in sorted(stable.to_pylist(), key=str):
                visible.setdefault((f"lake {dataset}", stored["date"]), []).append(stored)
    return visible


@pytest.mark.parametrize(
    "place", [*QUICK, *(pytest.param(p, marks=pytest.mark.slow) for p in PLACES if p not in QUICK)]
)
async def test_a_killed_job_leaves_whole_partitions_and_its_retry_equal_rows(
    pool: Pool, settings: Settings, connection: Connection, database: Database, place: str
) -> None:
    job = PLACES[place]
    await ledger.empty(database)
    await empty_outputs(database)
    await ledger.post(database, [on(1, 50, "OPENING_BALANCE"), *(on(day, -day) for day in (2, 3, 5))])
    await run(pool, settings, job)
    before = await partitions(connection, settings)
    await ledger.post(database, [on(2, -7), on(6, -1), on(3, 4, "RECEIPT", "B")])

    await run_until_killed(settings, job, place)
    at_death = await partitions(connection, settings)
    async with connection.transaction():
        assert len(await runs.end_lost(connection, silent_seconds=-60)) == 1
    killed: UUID = await connection.fetchval("SELECT run_id FROM run WHERE status = 'failed'")
    assert (await run_row(connection, killed))["error"] == runs.LOST
    async with connection.transaction():
        await runs.retry(connection, killed)
    assert await Execution(await claim(pool, killed), pool, settings).run() is RunStatus.SUCCEEDED

    after = await partitions(connection, settings)
    for partition, rows in at_death.items():
        assert rows in (before.get(partition), after[partition]), partition
    await empty_outputs(database)
    full = await start(pool, RunRequest(job, INTERVAL, "test", parameters={"full": True}))
    assert await Execution(await claim(pool, full), pool, settings).run() is RunStatus.SUCCEEDED
    assert await partitions(connection, settings) == after
    assert after != before


async def test_what_was_loaded_is_marked_for_new_metrics_though_the_job_is_killed_at_once(
    settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.empty(database)
    await empty_outputs(database)
    await ledger.post(database, [on(1, 50, "OPENING_BALANCE"), on(2, -3)])
    await connection.execute("""
        INSERT INTO daily_movement (sku, warehouse_id, date, transaction_type, entries, units_in, units_out, value,
                                    last_event_at)
        VALUES ('A', 'X', '2026-01-02', 'SALE', 1, 0, 3, 0, now())
    """)

    await run_until_killed(settings, "transaction_aggregation", "movement_aggregate.committed")

    assert await connection.fetchval("SELECT count(*) FROM movement_aggregate") > 0
    marked = await connection.fetch("SELECT DISTINCT sku, warehouse_id FROM dirty_stock_item")
    assert [tuple(row) for row in marked] == [("A", "X")]
