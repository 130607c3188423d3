"""A consumer that notes what it applied, in the schema of the pipeline."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from libs.events import client
from libs.events.consumer import Runner
from libs.events.envelope import BaseEvent, Event
from libs.events.offsets import PostgresSink
from libs.events.producer import producer
from libs.events.settings import KafkaSettings
from libs.events.sink import PartitionBatch
from libs.events.topics import INVENTORY_EVENTS, ensure_topics
from tests.stack import Database

_numbers = count(1)


@pytest.fixture(scope="module")
async def pool(database: Database) -> AsyncIterator[asyncpg.Pool]:
    """The pipeline's database, with a table `applied` for results."""
    connection = await asyncpg.connect(database.superuser_url)
    await connection.execute(
        "CREATE TABLE pipeline.applied (id uuid DEFAULT gen_random_uuid() PRIMARY KEY, group_name text, event_id uuid);"
        "GRANT ALL ON pipeline.applied TO stockflow_pipeline"
    )
    await connection.close()
    async with asyncpg.create_pool(database.url("pipeline"), min_size=1, max_size=8) as pool:
        yield pool


@pytest.fixture
async def own_kafka(kafka: KafkaSettings) -> KafkaSettings:
    """Topics of the test's own."""
    settings = replace_prefix(kafka, f"{kafka.topic_prefix}{next(_numbers)}-")
    await ensure_topics(settings)
    return settings


def replace_prefix(kafka: KafkaSettings, prefix: str) -> KafkaSettings:
    """The same broker, other topics."""
    return kafka.model_copy(update={"topic_prefix": prefix, "session_timeout_ms": 6_000})


Trouble = Callable[[Sequence[PartitionBatch]], Awaitable[None]]


async def _no_trouble(_batches: Sequence[PartitionBatch]) -> None:
    return


@dataclass
class Worker:
    """One worker of a group that writes the id of each event it applies."""

    pool: asyncpg.Pool
    kafka: KafkaSettings
    group: str
    trouble: Trouble = _no_trouble
    flush_max_bytes: int = 64 * 2**20
    runner: Runner = field(init=False)

    def __post_init__(self) -> None:
        sink = PostgresSink(self.pool, self.group, self._handle)
        self.runner = Runner(
            sink,
            topics=[INVENTORY_EVENTS],
            kafka=self.kafka,
            flush_max_bytes=self.flush_max_bytes,
            flush_max_age_seconds=0.05,
        )

    async def _handle(self, connection: asyncpg.Connection, batches: Sequence[PartitionBatch]) -> None:
        await connection.execute(
            "INSERT INTO applied (group_name, event_id) SELECT $1, unnest($2::uuid[])",
            self.group,
            [item.event.event_id for batch in batches for item in batch.received],
        )
        await self.trouble(batches)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """Runs until the block ends, then stops as on SIGTERM."""
        stop = asyncio.Event()
        task = asyncio.create_task(self.runner.run(stop))
        try:
            yield task
        finally:
            stop.set()
            await asyncio.wait({task})
        if error := task.exception():
            raise error


@pytest.fixture
def worker(pool: asyncpg.Pool, own_kafka: KafkaSettings) -> Worker:
    """A worker of a group of its own; `replace` makes more of them."""
    return Worker(pool, own_kafka, f"group-{next(_numbers)}")


def another(worker: Worker, **changes: object) -> Worker:
    """A second worker of the same group."""
    return replace(worker, **changes)  # type: ignore[arg-type]


async def applied(worker: Worker) -> list[str]:
    """The ids that were applied, once for each time."""
    rows = await worker.pool.fetch("SELECT event_id FROM applied WHERE group_name = $1", worker.group)
    return sorted(str(row["event_id"]) for row in rows)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    """Wait for something that will happen."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def until_applied(worker: Worker, number: int) -> None:
    """Wait until so many results are written."""

    async def enough() -> bool:
        return len(await applied(worker)) >= number

    await until(enough)


@asynccontextmanager
async def sending(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer."""
    sender = producer(kafka, "test")
    try:
        await client.start(sender)
        yield sender
    finally:
        await sender.stop()


async def send(kafka: KafkaSettings, *messages: BaseEvent | bytes | None) -> None:
    """Send events, or raw values, in order to the inventory events."""
    async with sending(kafka) as sender:
        for message in messages:
            value = message.model_dump_json().encode() if isinstance(message, BaseEvent) else message
            key = message.key.encode() if isinstance(message, Event) else b"raw"
            await sender.send_and_wait(kafka.topic("inventory-events"), value, key=key)
