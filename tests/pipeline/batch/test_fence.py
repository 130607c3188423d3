"""An attempt that was cancelled, taken for lost or begun again writes nothing any more."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest
from deltalake.exceptions import CommitFailedError

from libs.chassis.database import Connection, Pool
from services.pipeline.jobs import run_queries, runs, sink
from services.pipeline.jobs.contract import IN_LAKE, ITEM_DAYS
from services.pipeline.jobs.fence import Fence
from services.pipeline.jobs.job import Step, find, jobs
from services.pipeline.jobs.run import Claim, Fenced, RunStatus
from services.pipeline.jobs.sink import Target
from services.pipeline.jobs.step import Context, function_of
from services.pipeline.lake import PartitionedTable
from services.pipeline.settings import Settings
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.pipeline.batch.scenarios import INTERVAL, run
from tests.pipeline.batch.test_inventory_etl import DATASETS, OUTPUTS, empty_outputs
from tests.pipeline.batch.test_runs import a_request, claim, start
from tests.stack import Database

NOTHING = pa.table({"day": pa.array([], pa.int32())})
UNFENCED = {
    "calculate_weekly_metrics": "writes nothing",
    "maintain_lake": "writes the same rows in fewer files",
}


def item_days(settings: Settings) -> PartitionedTable:
    return PartitionedTable(settings.lake_url, ITEM_DAYS.dataset, ITEM_DAYS.schema)


def a_day(entries: int) -> pa.RecordBatchReader:
    row = {"sku": "A", "warehouse_id": "X", "day": 1, "units_in": 0, "units_out": 0, "net_change": 0, "demand": 0}
    return pa.Table.from_pylist([row | {"entries": entries}], ITEM_DAYS.schema).to_reader()


def entries_of(table: PartitionedTable) -> list[int | None]:
    return table.rows([1], ITEM_DAYS.schema).read_all()["entries"].to_pylist()


async def begun_again(pool: Pool, connection: Connection, settings: Settings) -> tuple[Fence, Fence]:
    """The first attempt of a run, which was taken for lost, and the second, which goes on."""
    url = settings.database_url.get_secret_value()
    first = await claim(pool, await start(pool))
    async with connection.transaction():
        await runs.end(connection, first.run_id, first.attempt, RunStatus.FAILED, runs.LOST)
        await runs.retry(connection, first.run_id)
    second = await claim(pool, first.run_id)
    return Fence(url, first.run_id, first.attempt), Fence(url, second.run_id, second.attempt)


async def test_the_lake_takes_nothing_from_an_attempt_that_was_begun_again(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    lost, going_on = await begun_again(pool, connection, settings)
    table = item_days(settings)
    await asyncio.to_thread(table.replace, [1], going_on.rows(a_day(2)), 1)

    with pytest.raises(Exception, match=f"attempt 1 of run {lost.run_id} does not count"):
        await asyncio.to_thread(table.replace, [1], lost.rows(a_day(1)), 1)

    assert entries_of(table) == [2]


async def test_the_lake_takes_nothing_from_who_was_overtaken_between_its_first_row_and_its_commit(
    settings: Settings,
) -> None:
    table = item_days(settings)
    await asyncio.to_thread(table.replace, [1], a_day(1), 1)

    def overtaken() -> Iterator[pa.RecordBatch]:
        yield from a_day(2)
        with ThreadPoolExecutor(1) as other:
            other.submit(table.replace, [1], a_day(3), 1).result()

    with pytest.raises(CommitFailedError):
        await asyncio.to_thread(table.replace, [1], pa.RecordBatchReader.from_batches(ITEM_DAYS.schema, overtaken()), 1)

    assert entries_of(table) == [3]


async def test_postgres_takes_nothing_from_an_attempt_that_was_begun_again(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    lost, going_on = await begun_again(pool, connection, settings)
    target = Target("movement_aggregate", {"date": "NULL::date"})

    async def replace(fence: Fence, day: int) -> None:
        await asyncio.to_thread(sink.replace_dates, fence.url, target, [day], NOTHING.to_reader(), 1 << 60, fence)

    await replace(going_on, 20_001)
    with pytest.raises(Fenced, match="attempt 1"):
        await replace(lost, 20_002)

    replaced = await connection.fetch(
        "SELECT date - DATE '1970-01-01' FROM dataset_partition WHERE watermark = $1", 1 << 60
    )
    assert [day for (day,) in replaced] == [20_001]


async def a_context(pool: Pool, settings: Settings, claimed: Claim, step: Step) -> Context:
    async with pool.acquire() as connection:
        upstream = await run_queries.latest_results(
            connection,  # type: ignore[arg-type]
            claimed.job,
            claimed.interval,
            None,
            step.after,
        )
    return Context(
        run_id=claimed.run_id,
        attempt=claimed.attempt,
        job=find(claimed.job),
        step=step,
        interval=claimed.interval,
        warehouse_id=None,
        parameters={"full": True},
        upstream=upstream,
        pool=pool,
        settings=settings,
        progress=lambda done, total: None,
        log=lambda event, *, level="info", **fields: None,
    )


@pytest.mark.slow
async def test_no_step_writes_for_a_run_that_has_ended(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.empty(database)
    await empty_outputs(database)
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(2, -3)])
    for name in jobs():
        await run(pool, settings, name)
    before = await kept(connection, settings)

    for job in jobs().values():
        claimed = await claim(pool, await start(pool, a_request(job=job.id, interval=INTERVAL)))
        async with connection.transaction():
            await runs.end(connection, claimed.run_id, claimed.attempt, RunStatus.CANCELLED, None)
        for step in job.steps:
            if step.name not in UNFENCED:
                with pytest.raises(Exception, match="does not count any more"):
                    await function_of(job, step)(await a_context(pool, settings, claimed, step))

    assert await kept(connection, settings) == before


async def kept(connection: Connection, settings: Settings) -> dict[str, Any]:
    """Which transaction wrote each row in Postgres, and the version of each table of the lake."""
    tables = (*DATASETS, *OUTPUTS, "movement_aggregate", "weekly_stock_item", "report", "alert", "mail", "outbox")
    in_postgres = {name: await connection.fetch(f"SELECT xmin::text FROM {name} ORDER BY 1") for name in tables}
    described = [PartitionedTable(settings.lake_url, each.dataset, each.schema).describe() for each in IN_LAKE]
    return in_postgres | {each.name: each.version for each in described if each is not None}
