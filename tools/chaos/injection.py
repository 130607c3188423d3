"""Records that no healthy producer sends: repeats, events out of order, strangers' events, and poison.

Each is marked by a header that no consumer looks at, so that the oracle knows it from the product's own.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
from aiokafka.errors import KafkaError

from libs.events import client
from libs.events.postgres import TRANSIENT
from libs.events.producer import producer
from libs.events.settings import KafkaSettings
from libs.events.topics import ANALYTICS_EVENTS, INVENTORY_EVENTS, REORDER_EVENTS
from tools.chaos.documents import Catalogue
from tools.chaos.topic import MARK, read_tail

REPEAT, REVERSED, EARLY = "repeat", "reversed", "early"
POISON, FUTURE, UNKNOWN, EXTERNAL = "poison", "future", "unknown", "external"
KINDS: Final = (REPEAT, REVERSED, EARLY, POISON, FUTURE, UNKNOWN, EXTERNAL)

GARBAGE: Final[tuple[bytes | None, ...]] = (
    None,
    b"",
    b"not JSON",
    b"[]",
    b"{}",
    b'"INVENTORY_UPDATE"',
    b"\x00\xff\xfe",
    b'{"eventType": 5}',
    b'{"eventType": "TRANSACTION", "eventId": "nobody"},{"eventType": "TRANSACTION"}',
    b'{"eventType": "INVENTORY_UPDATE", "quantityChange": NaN',
    b"[" * 5_000,
)
"""Poison on every topic."""
GARBAGE_HERE: Final = b'{"eventType": "INVENTORY_UPDATE", "sequence": 1}'
"""Poison on `inventory-events`; on the other topics an event of an unknown type, which is skipped."""
MOST_COPIES = 40
POISON_PER_ROUND = (4, 8)
LOOKS = 200


@dataclass(frozen=True, slots=True)
class Injected:
    """One record to send."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


@dataclass(slots=True)
class Injector:
    """Injects something every now and then until it is asked to stop."""

    kafka: KafkaSettings
    database_url: str
    items: Catalogue
    choice: random.Random
    pause_seconds: float
    rounds: int = 0
    interrupted: int = 0
    """Rounds that ran into the trouble that others make; what they did send is on the topic, marked."""
    _external: list[dict[str, Any]] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Inject every kind in turn."""
        while not stop.is_set():
            kind = KINDS[self.rounds % len(KINDS)]
            self.rounds += 1
            try:
                async with asyncio.timeout(20):
                    await self._send(kind, await self._records(kind))
            except (KafkaError, *TRANSIENT):
                self.interrupted += 1
            await asyncio.sleep(self.pause_seconds)

    async def _records(self, kind: str) -> Sequence[Injected]:
        match kind:
            case "repeat":
                return await self._copies(lambda records: self.choice.sample(records, min(len(records), MOST_COPIES)))
            case "reversed":
                return await self._copies(lambda records: records[-MOST_COPIES:][::-1])
            case "early":
                return await self._not_sent_yet()
            case "poison":
                return [self._poison() for _ in range(self.choice.randint(*POISON_PER_ROUND))]
            case "future":
                return [self._external_event(datetime.now(UTC) + timedelta(days=day)) for day in (1, 2, 400)]
            case "unknown":
                value = {"eventType": "STOCK_AUDITED", "eventId": str(self._uuid())}
                return [Injected(INVENTORY_EVENTS.name, b"unknown", json.dumps(value).encode())]
            case _:
                return self._external_events()

    async def _copies(self, choose: Any) -> list[Injected]:
        partition = self.choice.randrange(self.kafka.partitions)
        records = await read_tail(self.kafka, INVENTORY_EVENTS.name, partition, 500)
        ours = [record for record in records if all(name != MARK for name, _ in record.headers)]
        return [
            Injected(record.topic, record.key, record.value, record.headers, record.partition)
            for record in choose(ours)
        ]

    async def _not_sent_yet(self) -> list[Injected]:
        """The newest events of the outbox, before the relay sends the older ones: they arrive ahead of their turn."""
        connection = await asyncpg.connect(self.database_url, timeout=5)
        rows: list[asyncpg.Record] = []
        try:
            for _ in range(LOOKS):  # The relay leaves rows there for some milliseconds only.
                rows = rows or await connection.fetch(
                    "SELECT topic, key, value, headers FROM inventory.outbox ORDER BY id DESC LIMIT $1", MOST_COPIES
                )
                await asyncio.sleep(0 if rows else 0.01)
        finally:
            await connection.close()
        return [
            Injected(
                row["topic"],
                row["key"].encode(),
                row["value"],
                tuple((name, value.encode()) for name, value in json.loads(row["headers"]).items()),
            )
            for row in rows
        ]

    def _poison(self) -> Injected:
        topic = self.choice.choice((INVENTORY_EVENTS, INVENTORY_EVENTS, ANALYTICS_EVENTS, REORDER_EVENTS))
        values = (*GARBAGE, GARBAGE_HERE) if topic is INVENTORY_EVENTS else GARBAGE
        key = self.choice.choice((b"", b"WH 0:SKU-000", b"\xff\x00"))
        return Injected(
            topic.name, key, self.choice.choice(values), partition=self.choice.randrange(self.kafka.partitions)
        )

    def _external_events(self) -> list[Injected]:
        """New events of a third party, and some of the earlier ones once more."""
        repeats = self.choice.sample(self._external, min(len(self._external), 5))
        now = datetime.now(UTC)
        new = [self._event(now - timedelta(minutes=self.choice.randrange(3_000))) for _ in range(10)]
        self._external += new
        return [self._as_record(event) for event in self.choice.sample([*new, *repeats], len(new) + len(repeats))]

    def _external_event(self, at: datetime) -> Injected:
        return self._as_record(self._event(at))

    def _event(self, at: datetime) -> dict[str, Any]:
        """The eight fields that any producer knows."""
        return {
            "eventId": str(self._uuid()),
            "eventType": "INVENTORY_UPDATE",
            "sku": self.choice.choice(self.items.skus),
            "warehouseId": self.choice.choice(self.items.warehouses),
            "quantityChange": self.choice.randint(-5, 5),
            "timestamp": at.isoformat(),
            "referenceId": "third party",
            "notes": None,
        }

    def _as_record(self, event: dict[str, Any]) -> Injected:
        return Injected(INVENTORY_EVENTS.name, event["eventId"].encode(), json.dumps(event).encode())

    def _uuid(self) -> UUID:
        return UUID(int=self.choice.getrandbits(128), version=4)

    async def _send(self, kind: str, records: Sequence[Injected]) -> None:
        if not records:
            return
        sender = producer(self.kafka, "chaos")
        try:
            await client.start(sender)
            for record in records:
                await sender.send_and_wait(
                    record.topic,
                    record.value,
                    key=record.key,
                    partition=record.partition,
                    headers=[*record.headers, (MARK, kind.encode())],
                )
        finally:
            await asyncio.wait_for(sender.stop(), 10)
