"""The relay and the stream on Apache Kafka itself: brokers die, workers join and leave, and every event counts once."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from aiokafka.errors import KafkaError

from deploy.local.apache_kafka import ApacheKafka, Unavailable
from deploy.local.servers import Servers
from deploy.local.services import ROOT
from deploy.local.supervisor import Program, Supervisor
from libs.events import outbox
from libs.events.settings import KafkaSettings
from libs.events.topics import INVENTORY_EVENTS, ensure_topics
from tests.factories import an_inventory_update
from tests.stack import Database
from tools.chaos import topic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EVENTS = 3_000
KEYS = 30
BATCH = 25
WORKERS = ("stream-1", "stream-2", "stream-3")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster of Apache Kafka, and what is needed to run relays and workers on it."""

    nodes: Supervisor
    names: list[str]
    kafka: KafkaSettings
    database: Database
    processes: Supervisor
    programs: dict[str, Program]

    async def start(self, *names: str) -> None:
        """Start these processes."""
        await self.processes.start(*(self.programs[name] for name in names))

    async def stop(self, *names: str) -> None:
        """Ask these processes to leave, and wait until they have."""
        await self.processes.stop(names)


@asynccontextmanager
async def cluster(servers: Servers, database: Database, folder: Path, nodes: int) -> AsyncIterator[Cluster]:
    """So many brokers with all topics; skips where Apache Kafka cannot be had."""
    apache = ApacheKafka(folder / "kafka", folder / "logs", nodes=nodes)
    try:
        programs = await apache.programs()
    except Unavailable as reason:
        pytest.skip(f"NO APACHE KAFKA: {reason}")
    kafka = KafkaSettings(bootstrap_servers=apache.bootstrap_servers, replication_factor=nodes, partitions=6)
    async with Supervisor() as brokers, Supervisor() as processes:
        await brokers.start(*programs)
        await ensure_topics(kafka)
        jobs = dict(worker_programs(servers, database, kafka, folder / "logs"))
        yield Cluster(brokers, apache.names, kafka, database, processes, jobs)


def worker_programs(
    servers: Servers, database: Database, kafka: KafkaSettings, logs: Path
) -> Iterator[tuple[str, Program]]:
    """The pipeline's relay and three of its stream workers."""
    environment = {
        "DATABASE_URL": database.url("pipeline"),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_SESSION_TIMEOUT_MS": "6000",
        "REDIS_URL": servers.redis_url(),
        "MONGO_URL": servers.mongo_url(),
        "LAKE_URL": str(logs / "lake"),
    }
    for name, job in (("relay", "relay"), *((name, "stream") for name in WORKERS)):
        argv = (sys.executable, "-m", "services.pipeline", job)
        yield name, Program(name=name, argv=argv, log=logs / f"{name}.log", env=environment, directory=ROOT)


async def enqueue_all(database: Database, seconds: float) -> None:
    """Write the events to the pipeline's outbox, spread over so many seconds."""
    connection = await asyncpg.connect(database.url("pipeline"))
    try:
        for first in range(0, EVENTS, BATCH):
            events = [
                an_inventory_update(sku=f"S{number % KEYS}", sequence=number // KEYS + 1)
                for number in range(first, first + BATCH)
            ]
            async with connection.transaction():
                await outbox.enqueue(connection, events)
            await asyncio.sleep(seconds * BATCH / EVENTS)
    finally:
        await connection.close()


async def until_applied(database: Database, kafka: KafkaSettings) -> None:
    """Wait until the outbox is empty and the stream has reached the end of every partition."""
    connection = await asyncpg.connect(database.url("pipeline"))
    try:
        async with asyncio.timeout(240):
            while not await is_applied(connection, kafka):
                await asyncio.sleep(0.5)
    finally:
        await connection.close()


async def is_applied(connection: asyncpg.Connection, kafka: KafkaSettings) -> bool:
    """Whether nothing waits in the outbox or on the topic; False while no broker answers."""
    waiting = await connection.fetchval("SELECT count(*) FROM outbox")
    applied = await connection.fetchval("SELECT sum(next_offset) FROM consumer_offset")
    try:
        async with topic.reader(kafka) as reader:
            ends = await topic.end_offsets(reader, kafka, [INVENTORY_EVENTS.name])
    except KafkaError:
        return False
    return bool(waiting == 0 and applied == sum(ends.values()))


async def counted(database: Database) -> tuple[int, int, int]:
    """Ledger entries in the facts, stock items whose last sequence is right, stock items with missing sequences."""
    connection = await asyncpg.connect(database.url("pipeline"))
    try:
        entries = await connection.fetchval("SELECT sum(entries)::bigint FROM hourly_movement")
        complete = await connection.fetchval(
            "SELECT count(*) FROM stock_position WHERE last_sequence = $1", EVENTS // KEYS
        )
        missing = await connection.fetchval("SELECT count(*) FROM stock_position WHERE NOT isempty(missing)")
    finally:
        await connection.close()
    return entries, complete, missing


async def come_and_go(running: Cluster, steps: Sequence[tuple[str, str]], pause_seconds: float) -> None:
    """Workers and brokers come and go, one step at a time."""
    for step, name in steps:
        await asyncio.sleep(pause_seconds)
        match step:
            case "join":
                await running.start(name)
            case "leave":
                await running.stop(name)
            case "kill worker":
                running.processes.kill(name)
            case "kill broker":
                running.nodes.kill(name)
            case "lose broker":
                await running.nodes.stop([name])


async def test_three_workers_join_and_leave_while_the_broker_is_killed(
    servers: Servers, database: Database, tmp_path: Path
) -> None:
    steps = [
        ("join", "stream-2"),
        ("join", "stream-3"),
        ("leave", "stream-1"),
        ("kill broker", "kafka"),
        ("kill worker", "stream-2"),
        ("join", "stream-1"),
        ("leave", "stream-3"),
    ]
    async with cluster(servers, database, tmp_path, nodes=1) as running:
        await running.start("relay", "stream-1")
        await asyncio.gather(enqueue_all(database, 30.0), come_and_go(running, steps, 3.0))
        await until_applied(database, running.kafka)

    assert await counted(database) == (EVENTS, KEYS, 0)


async def test_a_cluster_of_three_goes_on_without_one_of_its_brokers(
    servers: Servers, template_database: str, tmp_path: Path
) -> None:
    database = Database(servers, "apache_kafka_cluster")
    await servers.create_database(database.name, template=template_database)
    async with cluster(servers, database, tmp_path, nodes=3) as running:
        await running.start("relay", "stream-1", "stream-2")
        steps = [("kill broker", running.names[0]), ("lose broker", running.names[1])]
        await asyncio.gather(enqueue_all(database, 40.0), come_and_go(running, steps, 15.0))
        await until_applied(database, running.kafka)

    assert await counted(database) == (EVENTS, KEYS, 0)
