import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import asyncpg
from aiokafka import AIOKafkaConsumer

from libs.events import outbox
from libs.events.inventory import InventoryUpdate
from libs.events.relay import Relay
from libs.events.settings import KafkaSettings
from libs.events.topics import INVENTORY_EVENTS, ensure_topics
from tests.events.conftest import replace_prefix, until
from tests.factories import an_inventory_update
from tests.stack import Database


@asynccontextmanager
async def _relay(database: Database, kafka: KafkaSettings) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    task = asyncio.create_task(Relay(database_url=database.url("pipeline"), kafka=kafka, name="relay").run(stop))
    yield task
    stop.set()
    await asyncio.wait({task}, timeout=15)


async def _published(kafka: KafkaSettings) -> list[InventoryUpdate]:
    """All inventory events on the broker, in the order of each partition."""
    consumer = AIOKafkaConsumer(
        kafka.topic("inventory-events"), **kafka.connection(), auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        events = []
        while polled := await consumer.getmany(timeout_ms=500):
            for records in polled.values():
                events += [INVENTORY_EVENTS.single.validate_json(record.value) for record in records]
        return [event for event in events if isinstance(event, InventoryUpdate)]
    finally:
        await consumer.stop()


async def _enqueue(pool: asyncpg.Pool, events: list[InventoryUpdate]) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await outbox.enqueue(cast(asyncpg.Connection, connection), events)


async def _empty(pool: asyncpg.Pool) -> bool:
    return bool(await pool.fetchval("SELECT count(*) = 0 FROM outbox"))


async def test_events_arrive_in_order_per_key_with_their_headers(
    database: Database, pool: asyncpg.Pool, own_kafka: KafkaSettings
) -> None:
    events = [an_inventory_update(sku=f"S{number % 7}", sequence=number // 7 + 1) for number in range(700)]

    await _enqueue(pool, events)
    async with _relay(database, own_kafka):
        await until(lambda: _empty(pool))

    by_sku = defaultdict(list)
    for event in await _published(own_kafka):
        by_sku[event.sku].append(event.sequence)
    assert dict(by_sku) == {f"S{number}": list(range(1, 101)) for number in range(7)}


async def test_an_event_that_waits_is_not_written_twice(pool: asyncpg.Pool) -> None:
    event = an_inventory_update(sku="TWICE")

    await _enqueue(pool, [event])
    await _enqueue(pool, [event])

    assert await pool.fetchval("SELECT count(*) FROM outbox WHERE event_id = $1", event.event_id) == 1
    await pool.execute("DELETE FROM outbox")


async def test_a_rolled_back_transaction_publishes_nothing(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await outbox.enqueue(cast(asyncpg.Connection, connection), [an_inventory_update(sku="NEVER")])
        await transaction.rollback()

    assert await _empty(pool)


async def test_relays_share_the_shards_and_one_takes_over_when_another_dies(
    database: Database, pool: asyncpg.Pool, own_kafka: KafkaSettings
) -> None:
    async def owned() -> list[int]:
        """Shards held, one number for each connection that holds any."""
        rows = await pool.fetch(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid < $1 "
            "AND classid = (hashtext('outbox:pipeline') & 2147483647)::oid "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY pid",
            outbox.SHARDS,
        )
        return sorted(row["count"] for row in rows)

    async def shared() -> bool:
        return await owned() == [outbox.SHARDS // 2, outbox.SHARDS // 2]

    async def taken_over() -> bool:
        return await owned() == [outbox.SHARDS]

    async with _relay(database, own_kafka):
        async with _relay(database, own_kafka) as dying:
            await until(shared)
            dying.cancel()
            await until(taken_over)
        await _enqueue(pool, [an_inventory_update(sku=f"T{number}") for number in range(100)])
        await until(lambda: _empty(pool))

    assert {event.sku for event in await _published(own_kafka)} == {f"T{number}" for number in range(100)}


async def test_a_relay_whose_connection_is_cut_starts_over(
    database: Database, pool: asyncpg.Pool, own_kafka: KafkaSettings
) -> None:
    killer = await asyncpg.connect(database.superuser_url)
    async with _relay(database, own_kafka):
        for sequence in range(1, 6):
            await _enqueue(pool, [an_inventory_update(sku="CUT", sequence=sequence)])
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'relay'"
            )
            await until(lambda: _empty(pool))
    await killer.close()

    first_seen = list(dict.fromkeys(event.sequence for event in await _published(own_kafka)))
    assert first_seen == [1, 2, 3, 4, 5]


async def test_an_event_that_is_too_large_is_set_aside_and_those_behind_it_are_sent(
    database: Database, pool: asyncpg.Pool, kafka: KafkaSettings
) -> None:
    """The embedded broker judges records; Apache Kafka judges batches, which are then taken apart."""
    small = replace_prefix(kafka, f"{kafka.topic_prefix}small-").model_copy(update={"max_message_bytes": 40_000})
    await ensure_topics(small)
    events = [
        an_inventory_update(sku="LARGE", sequence=number, notes=os.urandom(2_000).hex()) for number in range(1, 101)
    ]
    messages = [outbox.message(event) for event in events]
    messages[50] = replace(messages[50], value=os.urandom(150_000))
    async with pool.acquire() as connection, connection.transaction():
        await outbox.enqueue_messages(cast(asyncpg.Connection, connection), messages)

    async def one_is_left() -> bool:
        return bool(await pool.fetchval("SELECT count(*) = 1 FROM outbox"))

    async with _relay(database, small):
        await until(one_is_left)

    left = await pool.fetchrow("SELECT event_id, refusal FROM outbox")
    assert left is not None
    assert left["event_id"] == messages[50].event_id
    assert "TooLarge" in left["refusal"]
    async with pool.acquire() as connection:
        waiting = await outbox.depth(cast(asyncpg.Connection, connection))
    assert (waiting.depth, waiting.refused) == (0, 1)
    first_seen = list(dict.fromkeys(event.sequence for event in await _published(small)))
    assert first_seen == [number for number in range(1, 101) if number != 51]
    await pool.execute("DELETE FROM outbox")
