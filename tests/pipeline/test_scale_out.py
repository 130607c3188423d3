"""Several stream workers share twelve partitions; workers join under way, and every ledger entry is counted once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from libs.chassis.database import Connection, Pool
from libs.events.consumer import Runner
from libs.events.inventory import InventoryUpdate
from libs.events.offsets import PostgresSink
from libs.events.settings import KafkaSettings
from libs.events.topics import INVENTORY_EVENTS, ensure_topics
from libs.operations.rebuild import rebuild
from services.pipeline import stream
from tests.events.conftest import replace_prefix, send, until
from tests.factories import an_inventory_update
from tests.pipeline.test_stream import expected_facts, stored_facts
from tests.stack import Database

PARTITIONS = 12
SKUS = [f"SKU-{number}" for number in range(60)]


@pytest.fixture
async def twelve(kafka: KafkaSettings, request: pytest.FixtureRequest) -> KafkaSettings:
    """Topics of twelve partitions."""
    wide = replace_prefix(kafka, f"{kafka.topic_prefix}{len(request.node.name)}-").model_copy(
        update={"partitions": PARTITIONS}
    )
    await ensure_topics(wide)
    return wide


@asynccontextmanager
async def worker(pool: Pool, kafka: KafkaSettings, name: str) -> AsyncIterator[None]:
    """A stream worker that runs until the block ends, then stops as on SIGTERM."""
    stop = asyncio.Event()
    kafka = kafka.model_copy(update={"group_instance_id": name})
    sink = PostgresSink(pool, stream.GROUP, stream.handle, owner=name)
    runner = Runner(sink, topics=[INVENTORY_EVENTS], kafka=kafka, flush_max_records=50, flush_max_age_seconds=0.02)
    running = asyncio.create_task(runner.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


def entries(round_: int) -> list[InventoryUpdate]:
    """The next five ledger entries of every stock item."""
    return [an_inventory_update(sku, 5 * round_ + number) for number in range(1, 6) for sku in SKUS]


async def shares(pool: Pool) -> list[int]:
    """How many partitions each worker has claimed, in order."""
    rows = await pool.fetch("SELECT owner FROM consumer_offset WHERE group_name = $1", stream.GROUP)
    return sorted(Counter(row["owner"] for row in rows).values())


def shared(pool: Pool, expected: list[int]) -> Callable[[], Awaitable[bool]]:
    async def is_shared() -> bool:
        return await shares(pool) == expected

    return is_shared


def counted(pool: Pool, number: int) -> Callable[[], Awaitable[bool]]:
    async def is_counted() -> bool:
        total: int = await pool.fetchval("SELECT coalesce(sum(entries), 0)::bigint FROM daily_movement")
        return total >= number

    return is_counted


@pytest.mark.slow
async def test_one_two_and_three_workers_share_the_partitions_and_lose_nothing(
    pool: Pool, connection: Connection, twelve: KafkaSettings
) -> None:
    rounds = [entries(round_) for round_ in range(4)]
    async with AsyncExitStack() as workers:
        for number, share in enumerate(([12], [6, 6], [4, 4, 4])):
            await workers.enter_async_context(worker(pool, twelve, f"worker-{number}"))
            sending = asyncio.create_task(send(twelve, *rounds[number]))
            await until(shared(pool, share))
            await sending
        await send(twelve, *rounds[3])
        await until(counted(pool, 4 * len(rounds[0])))

    arrived = [entry for round_ in rounds for entry in round_]
    assert await stored_facts(connection, "daily_movement", "date") == expected_facts(arrived, "day")


@pytest.mark.slow
async def test_partitioned_facts_are_built_anew_from_the_topic(
    database: Database, pool: Pool, connection: Connection, twelve: KafkaSettings
) -> None:
    await send(twelve, *entries(0))
    async with worker(pool, twelve, "worker"):
        await until(counted(pool, len(entries(0))))
        await connection.execute("SELECT create_fact_partition('daily_movement', min(date)) FROM daily_movement")
        await connection.execute("DELETE FROM daily_movement WHERE sku < 'SKU-3'; DELETE FROM hourly_movement")

    await rebuild(
        stream.REBUILD, database_url=database.url("pipeline"), kafka=twelve, progress=lambda _done, _all: None
    )

    assert await stored_facts(connection, "daily_movement", "date") == expected_facts(entries(0), "day")
    assert await stored_facts(connection, "hourly_movement", "bucket_start") == expected_facts(entries(0), "hour")
