"""Processes are killed while documents are posted: what was acknowledged is in the ledger once, and on the topic."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import asyncpg
import httpx
import pytest

from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.servers import Servers
from deploy.local.services import Process, program
from deploy.local.supervisor import Supervisor
from libs.chassis.database import open_pool
from libs.events.envelope import document_event_id, stock_item_event_id
from libs.events.settings import KafkaSettings
from libs.events.topics import INVENTORY_EVENTS, ensure_topics
from services.inventory import audits
from tests.inventory.client import Inventory, Json, a_document, a_line
from tests.stack import Database, migrate
from tools.chaos import topic

WRITERS = 8
SKUS = [f"CRASH-{number}" for number in range(12)]
API, RELAY, POSTGRES = "inventory-api", "inventory-relay", "postgres"


@dataclass(frozen=True, slots=True)
class House:
    """The API and the relay as processes, on their servers."""

    database: Database
    kafka: KafkaSettings
    url: str
    supervisor: Supervisor

    async def start(self, logs: Path) -> None:
        """Start both processes, with a catalogue."""
        environment = {
            "DATABASE_URL": self.database.url("inventory"),
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": self.kafka.topic_prefix,
            "AUTH_MODE": "off",
            "LOG_LEVEL": "warning",
        }
        ports = {"api": httpx.URL(self.url).port or 0, "relay": free_ports(1)[0]}
        await self.supervisor.start(
            *(program(Process("inventory", job), port, environment, logs) for job, port in ports.items())
        )
        async with httpx.AsyncClient(base_url=self.url) as http:
            inventory = Inventory(http)
            await inventory.create_warehouse("BERLIN-1")
            for sku in SKUS:
                await inventory.create_product(sku)

    async def post_while_killing(self, victims: Sequence[str], kills: int) -> list[Json]:
        """Post documents while the victims are killed in turn; the documents that were acknowledged."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            writers = [tasks.create_task(self._write(random.Random(seed), stop)) for seed in range(WRITERS)]
            try:
                await self._kill(victims, kills)
            finally:
                stop.set()
        return [document for writer in writers for document in writer.result()]

    async def _write(self, choice: random.Random, stop: asyncio.Event) -> list[Json]:
        posted = []
        async with httpx.AsyncClient(base_url=self.url, timeout=10) as http:
            while not stop.is_set():
                document = a_random_document(choice)
                await post_until_answered(http, document)
                posted.append(document)
        return posted

    async def _kill(self, victims: Sequence[str], kills: int) -> None:
        choice = random.Random(1)
        for _, victim in zip(range(kills), cycle(victims), strict=False):
            await asyncio.sleep(choice.uniform(0.3, 0.8))
            self.supervisor.kill(victim)
            restarts = self.supervisor.restarts[victim]
            async with asyncio.timeout(60):
                while self.supervisor.restarts[victim] == restarts or not self.supervisor.are_ready:
                    await asyncio.sleep(0.02)

    async def until_published(self, connection: asyncpg.Connection) -> None:
        """Wait until the relay has sent everything."""
        async with asyncio.timeout(60):
            while await connection.fetchval("SELECT count(*) FROM outbox"):
                await asyncio.sleep(0.05)


def a_random_document(choice: random.Random) -> Json:
    """A receipt of a few lines: never refused, and often of the same stock items as others."""
    lines = [a_line(choice.choice(SKUS), choice.randint(1, 9)) for _ in range(choice.choice((1, 1, 5)))]
    return a_document("RECEIPT", *lines)


async def post_until_answered(http: httpx.AsyncClient, document: Json) -> None:
    """Send a document again and again until it is known to be posted."""
    while True:
        try:
            answer = await http.post("/transactions", json=document)
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        if answer.status_code in {200, 201}:
            return
        assert answer.status_code == 503, answer.text
        await asyncio.sleep(0.05)


async def assert_each_is_there_once(house: House, posted: Sequence[Json]) -> None:
    """The ledger holds exactly these documents, without gaps, and the topic exactly one event of each entry."""
    connection = await asyncpg.connect(house.database.url("inventory"))
    try:
        await house.until_published(connection)
        rows = await connection.fetch(
            """
            SELECT transaction_id, line_no, sku, warehouse_id, sequence, quantity_change
              FROM ledger_entry ORDER BY transaction_id, line_no
            """
        )
    finally:
        await connection.close()
    assert [(row[0], row[1], row[2], row[5]) for row in rows] == sorted(
        (UUID(document["transactionId"]), line_no, line["sku"], line["quantityChange"])
        for document in posted
        for line_no, line in enumerate(document["lines"], start=1)
    )
    async with await open_pool(house.database.url("inventory"), size=1, application_name="test") as pool:
        found = await audits.run(pool)
    assert not any(found.values()), found
    wanted = {stock_item_event_id("INVENTORY_UPDATE", row[3], row[2], row[4]) for row in rows}
    wanted |= {document_event_id("TRANSACTION", UUID(document["transactionId"]), 1) for document in posted}
    records = await topic.read_all(house.kafka, house.kafka.topic(INVENTORY_EVENTS.name))
    published = {UUID(event["eventId"]): event for event in map(json.loads, (record.value for record in records))}
    assert {each for each, event in published.items() if event["eventType"] != "STOCK_LEVEL_CHANGE"} == wanted
    assert len({record.value for record in records}) == len(published), "repeats of an event are the very same"


@pytest.fixture
async def house(database: Database, kafka: KafkaSettings, tmp_path: Path) -> AsyncIterator[House]:
    """On the servers that all tests share."""
    async with Supervisor() as supervisor:
        house = House(database, kafka, f"http://{LOOPBACK}:{free_ports(1)[0]}/api/v1", supervisor)
        await house.start(tmp_path)
        yield house


@pytest.fixture
async def durable_house() -> AsyncIterator[House]:
    """On servers of its own, whose Postgres may be killed: it flushes every commit to disk."""
    with TemporaryDirectory(prefix="stockflow-crashes-") as name:
        async with Servers(Path(name), durable=True) as servers:
            database = Database(servers, "crashes")
            await servers.create_database(database.name)
            await migrate(database.superuser_url)
            kafka = KafkaSettings(bootstrap_servers=servers.kafka_bootstrap_servers, partitions=4)
            await ensure_topics(kafka)
            house = House(database, kafka, f"http://{LOOPBACK}:{free_ports(1)[0]}/api/v1", servers.supervisor)
            await house.start(Path(name) / "logs")
            yield house


async def test_what_was_acknowledged_survives_kills_of_the_api_and_the_relay(house: House) -> None:
    posted = await house.post_while_killing([API, RELAY], kills=2)

    await assert_each_is_there_once(house, posted)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_what_was_acknowledged_survives_kills_of_postgres_too(durable_house: House) -> None:
    posted = await durable_house.post_while_killing([API, POSTGRES, RELAY], kills=24)

    await assert_each_is_there_once(durable_house, posted)
    codes = durable_house.supervisor.exit_codes
    assert {name: codes[name].count(-9) for name in (API, POSTGRES, RELAY)} == {API: 8, POSTGRES: 8, RELAY: 8}
