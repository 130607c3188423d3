"""What one event costs the stream or the archive: CPU seconds and memory of the process as deployed.

`python -m benchmarks.streaming_cpu` fills a topic, then runs `python -m services.pipeline stream` on it and reads the
process's own CPU time, which a busy machine distorts less than the wall clock. Prints one JSON object.
"""

import argparse
import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import asyncpg
import psutil
from aiokafka.partitioner import DefaultPartitioner

from benchmarks.machine import cpu_seconds, peak_memory_bytes
from deploy.local.servers import Servers
from libs.events import outbox
from libs.events.envelope import stock_item_event_id, stock_item_key
from libs.events.inventory import InventoryUpdate, TransactionType
from libs.events.outbox import Message
from libs.events.producer import producer
from libs.events.settings import KafkaSettings
from libs.events.topics import INVENTORY_EVENTS, ensure_topics
from tests.stack import Database, migrate

PARTITIONS = 12
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
EMBEDDED_BROKER = {"KAFKA_FETCH_PAUSE_MS": "50", "ARCHIVE_FLUSH_SECONDS": "5"}
"""As in the local stack: the embedded broker answers empty fetches at once, which would be all that one sees."""
WARM_UP_SHARE = 0.1
"""Of the events: until then the process imports, claims and fills its caches."""


def sales(events: int, items: int, seed: int = 1) -> Iterator[Message]:
    """Priced sales of these stock items over three days, with sequences without gaps."""
    choice = random.Random(seed)
    sequences = [0] * items
    form = _message_of_a_sale()
    fields = json.loads(form.value)
    for number in range(events):
        item = choice.randrange(items)
        sequences[item] += 1
        sku, warehouse_id = f"SKU-{item // 5:06}", f"WAREHOUSE-{item % 5}"
        event_id = stock_item_event_id("INVENTORY_UPDATE", warehouse_id, sku, sequences[item])
        at = (BEGINNING + timedelta(seconds=number * 3 * 86_400 / events)).isoformat().replace("+00:00", "Z")
        changed = {
            "eventId": str(event_id),
            "sku": sku,
            "warehouseId": warehouse_id,
            "quantityChange": -choice.randint(1, 9),
            "timestamp": at,
            "recordedAt": at,
            "referenceId": f"ORDER-{number}",
            "sequence": sequences[item],
            "revision": sequences[item],
            "transactionId": str(uuid4()),
        }
        yield Message(
            event_id=event_id,
            topic=form.topic,
            key=stock_item_key(warehouse_id, sku),
            value=json.dumps(fields | changed, separators=(",", ":")).encode(),
            headers=form.headers | {"ce_id": str(event_id), "ce_time": at},
        )


def _message_of_a_sale() -> Message:
    return outbox.message(
        InventoryUpdate(
            event_id=uuid4(),
            sku="SKU",
            warehouse_id="WAREHOUSE",
            quantity_change=-1,
            timestamp=BEGINNING,
            recorded_at=BEGINNING,
            source="api",
            sequence=1,
            revision=1,
            transaction_id=uuid4(),
            transaction_type=TransactionType.SALE,
            line_no=1,
            quantity_on_hand=1_000_000,
            quantity_reserved=0,
            unit_price=Decimal("12.50"),
            unit_cost=Decimal("7.25"),
        )
    )


async def fill(kafka: KafkaSettings, messages: Iterable[Message]) -> None:
    """Put messages on the topic of inventory events as the relay would: whole batches, in order per key."""
    await ensure_topics(kafka)
    partitioner, partitions = DefaultPartitioner(), list(range(PARTITIONS))
    topic = kafka.topic(INVENTORY_EVENTS.name)
    sender = producer(kafka, "bench")
    await sender.start()
    try:
        batches = {partition: sender.create_batch() for partition in partitions}
        for message in messages:
            key = message.key.encode()
            partition = partitioner(key, partitions, partitions)
            headers = [(name, value.encode()) for name, value in message.headers.items()]
            while not batches[partition].append(key=key, value=message.value, timestamp=None, headers=headers):
                await sender.send_batch(batches[partition], topic, partition=partition)
                batches[partition] = sender.create_batch()
        for partition, batch in batches.items():
            await sender.send_batch(batch, topic, partition=partition)
        await sender.flush()
    finally:
        await sender.stop()


def pipeline_environment(database: Database, kafka: KafkaSettings, folder: Path) -> dict[str, str]:
    """Settings of a process of the pipeline."""
    servers = database.servers
    return os.environ | {
        "DATABASE_URL": database.url("pipeline"),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "REDIS_URL": servers.redis_url(),
        "MONGO_URL": servers.mongo_url(),
        "LAKE_URL": str(folder / "lake"),
        "AUTH_MODE": "off",
        "LOG_LEVEL": "warning",
        "PORT": "0",
    }


@asynccontextmanager
async def full_topic(events: int, items: int) -> AsyncIterator[tuple[Database, dict[str, str]]]:
    """Servers with this many sales on the topic: the database, and the settings of a process of the pipeline."""
    with TemporaryDirectory(prefix="stockflow-bench-") as name:
        async with Servers(Path(name), durable=False) as servers:
            database = Database(servers, "bench")
            await servers.create_database(database.name)
            await migrate(database.superuser_url)
            kafka = KafkaSettings(bootstrap_servers=servers.kafka_bootstrap_servers, partitions=PARTITIONS)
            await fill(kafka, sales(events, items))
            yield database, pipeline_environment(database, kafka, Path(name)) | EMBEDDED_BROKER


async def measure(
    process: str,
    events: int,
    items: int,
    watched: Callable[[int], AbstractAsyncContextManager[object]] = nullcontext,
) -> dict[str, object]:
    """CPU microseconds per event and peak memory of one process on a full topic; `watched` is given its pid."""
    async with full_topic(events, items) as (database, environment):
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.pipeline", process, env=environment
        )
        try:
            async with watched(worker.pid):
                return await _watch(psutil.Process(worker.pid), database, process, events)
        finally:
            worker.terminate()
            await worker.wait()


async def _watch(worker: psutil.Process, database: Database, process: str, events: int) -> dict[str, object]:
    connection = await asyncpg.connect(database.url("pipeline"))
    warm: tuple[int, float] | None = None
    try:
        while (applied := await applied_by(connection, process)) < events:
            if warm is None and applied >= events * WARM_UP_SHARE:
                warm = applied, cpu_seconds(worker)
            await asyncio.sleep(0.1)
        cpu = cpu_seconds(worker)
    finally:
        await connection.close()
    if warm is None:
        raise ValueError(f"{events} events were applied at once: too few to measure")
    return {
        "process": process,
        "events": events,
        "cpu_us_per_event": round((cpu - warm[1]) / (applied - warm[0]) * 1e6, 1),
        "peak_memory_mb": round(peak_memory_bytes(worker) / 2**20),
    }


async def applied_by(connection: asyncpg.Connection, process: str) -> int:
    """Records that a process of the pipeline has applied."""
    applied: int = await connection.fetchval(
        "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offset WHERE group_name = $1", f"pipeline-{process}"
    )
    return applied


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming_cpu", description=__doc__)
    parser.add_argument("process", nargs="?", choices=["stream", "archive"], default="stream")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=1_000, help="stock items")
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(measure(arguments.process, arguments.events, arguments.items))))


if __name__ == "__main__":
    main()
