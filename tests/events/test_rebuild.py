import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from libs.chassis.database import Connection, acquired
from libs.events import dead_letter_retry
from libs.events.sink import PartitionBatch
from libs.events.topics import INVENTORY_EVENTS
from libs.operations.generation import AlreadyRunning, NewDeadLetters
from libs.operations.rebuild import Built, Rebuild, rebuild
from tests.events.conftest import Worker, applied, send, until, until_applied
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


async def _rebuild(worker: Worker, database: Database, *, accept: bool = False) -> None:
    await rebuild(
        _job(worker, []),
        database_url=database.url("pipeline"),
        kafka=worker.kafka,
        progress=lambda *_: None,
        accept_dead_letters=accept,
    )


async def _letters(worker: Worker) -> dict[int, asyncpg.Record]:
    """The dead letters of the worker's group by id."""
    rows = await worker.pool.fetch("SELECT * FROM dead_letter WHERE group_name = $1", worker.group)
    return {row["id"]: row for row in rows}


async def _shadow_tables(worker: Worker) -> int:
    number: int = await worker.pool.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'pipeline_rebuild'")
    return number


async def test_a_rebuild_that_would_lose_records_is_refused_unless_they_may_become_dead_letters(
    worker: Worker, database: Database
) -> None:
    good, bad = an_inventory_update(sku="GOOD"), an_inventory_update(sku="BAD")
    await send(worker.kafka, good, bad)
    async with worker.running():
        await until_applied(worker, 2)

    async def refuse(batches: Sequence[PartitionBatch]) -> None:
        if any(item.event.event_id == bad.event_id for batch in batches for item in batch.received):
            raise ValueError("no such sku")

    worker.trouble = refuse
    with pytest.raises(NewDeadLetters, match=r"inventory-events\[\d\]@\d\tValueError: no such sku"):
        await _rebuild(worker, database)
    refused = await applied(worker), await _letters(worker)
    await _rebuild(worker, database, accept=True)
    again = await _letters(worker)
    await _rebuild(worker, database)

    assert refused == (sorted([str(good.event_id), str(bad.event_id)]), {})
    assert await applied(worker) == [str(good.event_id)]
    assert [(letter["status"], letter["error"]) for letter in again.values()] == [("pending", "no such sku")]
    assert await _letters(worker) == again
    assert await _shadow_tables(worker) == 0
    assert (
        await worker.pool.fetchval(
            "SELECT count(*) FROM outbox WHERE convert_from(value, 'UTF8') LIKE $1", f"%{bad.event_id}%"
        )
        == 1
    )


async def test_a_rebuild_applies_what_people_have_decided_about_dead_letters(
    worker: Worker, database: Database
) -> None:
    edited, retried, discarded, pending = sales = [an_inventory_update(sku=f"C-{number}") for number in range(4)]
    correct = an_inventory_update(sku="CORRECT")
    refused = {sale.event_id for sale in sales}

    async def refuse(batches: Sequence[PartitionBatch]) -> None:
        if any(item.event.event_id in refused for batch in batches for item in batch.received):
            raise ValueError("not yet")

    async def all_buried() -> bool:
        return len(await _letters(worker)) == len(sales)

    worker.trouble = refuse
    await send(worker.kafka, *sales)
    async with worker.running():
        await until(all_buried)
    ids = {letter["value"]: letter["id"] for letter in (await _letters(worker)).values()}
    edited_id, retried_id, discarded_id, pending_id = (ids[sale.model_dump_json().encode()] for sale in sales)
    refused.clear()
    async with acquired(worker.pool) as connection, connection.transaction():
        value = correct.model_dump_json().encode()
        await dead_letter_retry.retry(connection, worker._handle, edited_id, by="anna", value=value)
        await dead_letter_retry.retry(connection, worker._handle, retried_id, by="anna")
        await dead_letter_retry.discard(connection, discarded_id, by="anna", note="test data")
    before = await applied(worker)
    await _rebuild(worker, database)

    statuses = {letter["id"]: (letter["status"], letter["resolved_by"]) for letter in (await _letters(worker)).values()}
    assert before == sorted([str(correct.event_id), str(retried.event_id)])
    assert await applied(worker) == sorted([*before, str(pending.event_id)])
    assert statuses == {
        edited_id: ("resolved", "anna"),
        retried_id: ("resolved", "anna"),
        discarded_id: ("discarded", "anna"),
        pending_id: ("resolved", "rebuild"),
    }

    refused |= {correct.event_id}
    await _rebuild(worker, database, accept=True)

    reopened = {letter["id"]: letter["status"] for letter in (await _letters(worker)).values()}
    assert reopened[edited_id] == "pending"
    assert not {str(edited.event_id), str(correct.event_id), str(discarded.event_id)} & set(await applied(worker))


async def test_a_second_rebuild_at_once_is_refused_and_the_first_goes_on(worker: Worker, database: Database) -> None:
    await send(worker.kafka, an_inventory_update(sku="D"))
    async with worker.running():
        await until_applied(worker, 1)

    first = asyncio.create_task(_rebuild(worker, database))

    async def has_begun() -> bool:
        return await _shadow_tables(worker) > 0

    await until(has_begun)
    with pytest.raises(AlreadyRunning, match="another rebuild of group-"):
        await _rebuild(worker, database)
    await first

    assert len(await applied(worker)) == 1
    assert await _shadow_tables(worker) == 0
