import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from libs.chassis.database import Connection
from libs.events.sink import PartitionBatch
from libs.events.topics import INVENTORY_EVENTS
from libs.operations.rebuild import Built, Rebuild, rebuild
from tests.events.conftest import Worker, applied, send, until_applied
from tests.factories import an_inventory_update
from tests.stack import Database


def _job(worker: Worker, switched: list[str]) -> Rebuild:
    async def handle(connection: asyncpg.Connection, batches: Sequence[PartitionBatch]) -> None:
        await worker._handle(connection, batches)

    async def after_switch(connection: Connection) -> None:
        switched.append(await connection.fetchval("SELECT current_schema()"))

    return Rebuild(worker.group, "pipeline", [INVENTORY_EVENTS], [Built("applied")], handle, after_switch)


@pytest.mark.slow
async def test_results_are_built_anew_beside_a_running_worker(worker: Worker, database: Database) -> None:
    sales = [an_inventory_update(sku=f"A-{number}") for number in range(300)]
    ids = sorted(str(sale.event_id) for sale in sales)
    switched: list[str] = []
    seen: list[tuple[int, int]] = []

    await send(worker.kafka, *sales[:200])
    async with worker.running():
        await until_applied(worker, 200)
        await worker.pool.execute("DELETE FROM applied WHERE group_name = $1", worker.group)
        sending = asyncio.create_task(send(worker.kafka, *sales[200:250]))
        await rebuild(
            _job(worker, switched),
            database_url=database.url("pipeline"),
            kafka=worker.kafka,
            progress=lambda done, total: seen.append((done, total)),
        )
        await sending
        await send(worker.kafka, *sales[250:])
        await until_applied(worker, 300)

    assert await applied(worker) == ids
    assert switched == ["pipeline"]
    assert seen[-1][0] == seen[-1][1] >= 200


async def test_a_rebuild_that_fails_changes_nothing(worker: Worker, database: Database) -> None:
    await send(worker.kafka, *[an_inventory_update(sku=f"B-{number}") for number in range(20)])
    async with worker.running():
        await until_applied(worker, 20)

    async def broken(_connection: asyncpg.Connection, _batches: Sequence[PartitionBatch]) -> None:
        raise MemoryError

    job = Rebuild(
        worker.group, "pipeline", [INVENTORY_EVENTS], [Built("no_such_table")], broken, _job(worker, []).after_switch
    )
    with pytest.raises(asyncpg.UndefinedTableError):
        await rebuild(job, database_url=database.url("pipeline"), kafka=worker.kafka, progress=lambda *_: None)

    assert len(await applied(worker)) == 20
