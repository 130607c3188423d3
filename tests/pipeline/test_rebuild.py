"""`events rebuild --group pipeline-stream` beside a running worker, and `projections rebuild redis`, as commands."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis import asyncio as redis

from libs.chassis.database import Connection, Pool
from libs.events import consumer, dead_letter_retry
from libs.events.consumer import Runner
from libs.events.offsets import PostgresSink
from libs.events.settings import KafkaSettings
from libs.events.topics import INVENTORY_EVENTS, ensure_topics
from services.pipeline import stream
from services.pipeline.cache import Cache
from services.pipeline.metrics import Metrics
from services.pipeline.settings import Settings
from tests.events.conftest import replace_prefix, send, until
from tests.factories import an_inventory_update
from tests.pipeline.test_stream import apply, expected_facts, stored_facts
from tests.stack import run_command

ENTRIES = [an_inventory_update(f"SKU-{number % 7}", number // 7 + 1) for number in range(70)]
LATER = [an_inventory_update(f"SKU-{number}", 11) for number in range(7)]

ITEM_HASHES = ("stock:levels:BERLIN-1", "stock:metrics:BERLIN-1")


async def run(settings: Settings, *command: str) -> tuple[int, str]:
    """Run a command of the service to its end."""
    environment = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "MONGO_URL": settings.mongo_url.get_secret_value(),
        "LAKE_URL": settings.lake_url,
    }
    return await run_command("pipeline", *command, kafka=settings.kafka, environment=environment)


async def results(connection: Connection) -> dict[str, Any]:
    """All that the stream has made of the events, but for the counters of revisions."""
    return {
        "hourly": await stored_facts(connection, "hourly_movement", "bucket_start"),
        "daily": await stored_facts(connection, "daily_movement", "date"),
        "positions": sorted(
            tuple(row)
            for row in await connection.fetch(
                "SELECT sku, warehouse_id, last_sequence, missing, revision, quantity_on_hand FROM stock_position"
            )
        ),
    }


async def counted(connection: Connection) -> int:
    """The ledger entries in the facts."""
    return await connection.fetchval("SELECT coalesce(sum(entries), 0)::bigint FROM daily_movement")  # type: ignore[no-any-return]


async def epochs(connection: Connection) -> dict[int, int]:
    """The epoch of each partition."""
    rows = await connection.fetch("SELECT partition, epoch FROM consumer_offset")
    return {row["partition"]: row["epoch"] for row in rows}


def fenced() -> float:
    """Partitions that workers of this process have lost while writing."""
    return REGISTRY.get_sample_value("stockflow_consumer_fenced_total", {"group": stream.GROUP}) or 0.0


async def test_damaged_facts_are_built_anew_and_the_running_worker_is_fenced_and_goes_on(
    settings: Settings, pool: Pool, connection: Connection, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "RECLAIM_SECONDS", 0.2)
    stop = asyncio.Event()
    sink = PostgresSink(pool, stream.GROUP, stream.handle, owner="worker")
    worker = Runner(sink, topics=[INVENTORY_EVENTS], kafka=kafka, flush_max_age_seconds=0.02)
    await send(kafka, *ENTRIES)
    running = asyncio.create_task(worker.run(stop))

    async def all_counted() -> bool:
        return await counted(connection) >= len(ENTRIES)

    async def all_counted_again() -> bool:
        return await counted(connection) >= len(ENTRIES) + len(LATER)

    await until(all_counted)
    before, epochs_before, fenced_before = await results(connection), await epochs(connection), fenced()
    await connection.execute(
        """
        DELETE FROM daily_movement WHERE sku < 'SKU-3';
        UPDATE hourly_movement SET units_out = units_out + 1 WHERE sku = 'SKU-4';
        UPDATE daily_movement SET sku = 'INVENTED' WHERE sku = 'SKU-5';
        DELETE FROM stock_position WHERE sku = 'SKU-6';
        INSERT INTO stock_metric (sku, warehouse_id, as_of) VALUES ('GONE', 'BERLIN-1', '2026-01-01');
        """
    )
    assert await results(connection) != before

    code, output = await run(settings, "events", "rebuild", "--group", stream.GROUP)
    after, epochs_after = await results(connection), await epochs(connection)
    await send(kafka, *LATER)
    await until(all_counted_again)
    stop.set()
    await running

    assert code == 0, output
    assert "70 of 70 records" in output
    assert after == before
    assert await connection.fetchval("SELECT count(*) FROM stock_metric WHERE sku = 'GONE'") == 0
    assert epochs_after == {partition: epoch + 1 for partition, epoch in epochs_before.items()}
    assert fenced() > fenced_before
    assert (await results(connection))["daily"] == expected_facts([*ENTRIES, *LATER], "day")


async def test_a_group_of_another_service_is_refused(settings: Settings) -> None:
    code, output = await run(settings, "events", "rebuild", "--group", "reorder-position")

    assert code == 2
    assert "invalid choice: 'reorder-position' (choose from 'pipeline-stream')" in output


async def test_redis_is_written_anew_from_postgres(
    settings: Settings, pool: Pool, connection: Connection, cache: Cache
) -> None:
    async with redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True) as store:
        await store.flushdb()
        await apply(connection, *ENTRIES)
        await Metrics(settings, pool, cache).calculate_marked(asyncio.Event())
        before = await everything(store)
        await store.hdel("stock:levels:BERLIN-1", "SKU-1", "SKU-2")
        await store.delete("stock:metrics:BERLIN-1", "stock:built")
        await store.hset("stock:levels:BERLIN-1", "GONE", '{"revision":1}')
        await store.hset("stock:metrics:NOWHERE", "GONE", '{"revision":1}')
        await store.sadd("stock:low", "BERLIN-1:GONE")
        damaged = await everything(store)

        code, output = await run(settings, "projections", "rebuild", "redis")
        after = await everything(store)
        low = await store.smembers("stock:low")

    assert code == 0, output
    assert "BERLIN-1:GONE" not in low
    assert "stock:metrics:NOWHERE" not in after
    assert damaged != before
    assert {key: after[key] for key in ITEM_HASHES} == {key: before[key] for key in ITEM_HASHES}
    assert len(after["stock:levels:BERLIN-1"]) == 7


async def everything(store: redis.Redis) -> dict[str, Any]:
    """All hashes of stock."""
    keys = [key async for key in store.scan_iter("stock:*", _type="HASH")]
    return {key: await store.hgetall(key) for key in keys}


async def test_an_edited_event_counts_after_a_rebuild_as_it_did_before(
    settings: Settings, pool: Pool, connection: Connection, kafka: KafkaSettings
) -> None:
    own_kafka = replace_prefix(kafka, f"{kafka.topic_prefix}edited-")
    await ensure_topics(own_kafka)
    late = an_inventory_update("LATE", 1)
    refused = late.model_copy(update={"timestamp": late.timestamp + timedelta(days=40_000)})
    sink = PostgresSink(pool, stream.GROUP, stream.handle, owner="worker")
    stop = asyncio.Event()
    await send(own_kafka, *ENTRIES[:7], refused)

    async def is_buried() -> bool:
        return bool(await connection.fetchval("SELECT count(*) FROM dead_letter"))

    running = asyncio.create_task(Runner(sink, topics=[INVENTORY_EVENTS], kafka=own_kafka).run(stop))
    await until(is_buried)
    stop.set()
    await running
    async with connection.transaction():
        letter_id = await connection.fetchval("SELECT id FROM dead_letter")
        value = late.model_dump_json().encode()
        await dead_letter_retry.retry(connection, stream.handle, letter_id, by="anna", value=value)
    before = await results(connection)

    code, output = await run(
        settings.model_copy(update={"kafka": own_kafka}), "events", "rebuild", "--group", stream.GROUP
    )

    assert code == 0, output
    assert before["daily"] == expected_facts([*ENTRIES[:7], late], "day")
    assert await results(connection) == before
    assert await connection.fetchval("SELECT status FROM dead_letter") == "resolved"
