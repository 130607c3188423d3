"""Two relays of one outbox, killed again and again: the events of a key still arrive in their order."""

import asyncio
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from deploy.local.services import ROOT
from deploy.local.supervisor import Program, Supervisor
from libs.events import outbox
from libs.events.settings import KafkaSettings
from libs.events.topics import INVENTORY_EVENTS
from tests.factories import an_inventory_update
from tests.stack import Database
from tools.chaos import topic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EVENTS = 20_000
KEYS = 40
BATCH = 25
KILLS = 20
RELAYS = ("relay-1", "relay-2")


def relay_programs(database: Database, kafka: KafkaSettings, logs: Path) -> Iterator[Program]:
    """The relay process of reorder, twice; each also dies at times between sending and deleting."""
    environment = {
        "DATABASE_URL": database.url("reorder"),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "STOCKFLOW_FAILPOINTS": "relay.sent=0.02",
    }
    for name in RELAYS:
        argv = (sys.executable, "-m", "services.reorder", "relay")
        yield Program(name=name, argv=argv, log=logs / f"{name}.log", env=environment, directory=ROOT)


async def enqueue_all(database: Database, count: int) -> None:
    """Write events of KEYS stock items, in order per stock item, in many transactions."""
    connection = await asyncpg.connect(database.url("reorder"))
    try:
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            events = [an_inventory_update(sku=f"S{n % KEYS}", sequence=n // KEYS + 1) for n in numbers]
            async with connection.transaction():
                await outbox.enqueue(connection, events)
            await asyncio.sleep(40 * BATCH / count)
    finally:
        await connection.close()


async def kill_at_random(relays: Supervisor, kills: int) -> None:
    """Kill one of the relays every now and then."""
    choice = random.Random(1)
    for _ in range(kills):
        await asyncio.sleep(choice.uniform(1.0, 3.0))
        relays.kill(choice.choice(RELAYS))


async def until_empty(database: Database) -> None:
    """Wait until the outbox is empty."""
    connection = await asyncpg.connect(database.url("reorder"))
    try:
        async with asyncio.timeout(180):
            while await connection.fetchval("SELECT count(*) FROM outbox"):
                await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def test_two_relays_under_kills_keep_the_order_of_every_key(
    database: Database, kafka: KafkaSettings, tmp_path: Path
) -> None:
    async with Supervisor() as relays:
        await relays.start(*relay_programs(database, kafka, tmp_path))
        await asyncio.gather(enqueue_all(database, EVENTS), kill_at_random(relays, KILLS))
        await until_empty(database)
        killed = sum(code == -9 for codes in relays.exit_codes.values() for code in codes)

    last: dict[str, int] = defaultdict(int)
    violations = []
    for record in await topic.read_all(kafka, kafka.topic(INVENTORY_EVENTS.name)):
        event = json.loads(record.value)
        if event["sequence"] > last[event["sku"]] + 1:
            violations.append((event["sku"], last[event["sku"]], event["sequence"]))
        last[event["sku"]] = max(last[event["sku"]], event["sequence"])
    assert killed >= KILLS // 2
    assert violations == []
    assert last == {f"S{number}": EVENTS // KEYS for number in range(KEYS)}
