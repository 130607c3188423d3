"""What Kafka holds, for the reconciliation: the topic is really read from its beginning."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from libs.events import client, decoding, lag
from libs.events.inventory import ExternalInventoryUpdate, InventoryUpdate
from libs.events.settings import KafkaSettings
from libs.events.sink import RecordId
from libs.events.topics import INVENTORY_EVENTS
from services.pipeline.reconciliation import Holding, Tallies, Unreadable

RECORDS_PER_POLL = 5_000
SILENCE_SECONDS = 30.0
STOP_SECONDS = 10.0


class TopicReading:
    """What was found so far. Repeats lie in one partition, except those of third parties, who may use any key."""

    def __init__(self, dead: Collection[RecordId]) -> None:
        self.tallies = Tallies()
        self.external: set[tuple[object, UUID]] = set()
        self._dead = dead
        self._seen: set[UUID] = set()

    def next_partition(self) -> None:
        """Forget the event ids of the partition before."""
        self._seen.clear()

    def add(self, records: list[ConsumerRecord]) -> None:
        """Count ledger entries and third parties' updates, each event once."""
        for received in decoding.decode(INVENTORY_EVENTS, records).received:
            event = received.event
            if isinstance(event, InventoryUpdate):
                if event.event_id not in self._seen:
                    self._seen.add(event.event_id)
                    day = event.warehouse_id, event.timestamp.astimezone(UTC).date()
                    self.tallies[day].count(str(event.transaction_id), event.line_no, event.quantity_change)
            elif isinstance(event, ExternalInventoryUpdate):
                record = received.record
                if RecordId(record.topic, record.partition, record.offset) not in self._dead:
                    self.external.add((event.timestamp.astimezone(UTC).date(), event.event_id))


async def read(kafka: KafkaSettings, dead: Collection[RecordId]) -> Holding | Unreadable:
    """All ledger entries and third parties' updates of `inventory-events`, but for third parties' at dead places."""
    topic = kafka.topic(INVENTORY_EVENTS.name)
    consumer = AIOKafkaConsumer(
        **kafka.connection(),
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="none",
        max_partition_fetch_bytes=kafka.max_message_bytes,
    )
    try:
        await client.start(consumer)
        partitions = await lag.partitions(consumer, [topic])
        if not partitions:
            return Unreadable(f"{topic} does not exist")
        beginnings = await consumer.beginning_offsets(partitions)
        if deleted := [partition for partition in partitions if beginnings[partition] > 0]:
            return Unreadable(f"{topic} no longer holds its oldest records in {len(deleted)} partitions")
        ends = await consumer.end_offsets(partitions)
        reading = TopicReading(dead)
        for partition in partitions:
            reading.next_partition()
            await _read_partition(consumer, partition, ends[partition], reading)
        return Holding(tallies=reading.tallies, external=len(reading.external))
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(consumer.stop(), STOP_SECONDS)


async def _read_partition(
    consumer: AIOKafkaConsumer, partition: TopicPartition, end: int, reading: TopicReading
) -> None:
    """Read one partition up to `end`. Raises TimeoutError when the broker falls silent."""
    consumer.assign([partition])
    consumer.seek(partition, 0)
    while await consumer.position(partition) < end:
        async with asyncio.timeout(SILENCE_SECONDS):
            fetched: dict[TopicPartition, list[ConsumerRecord]] = {}
            while not fetched and await consumer.position(partition) < end:
                fetched = await consumer.getmany(partition, timeout_ms=1000, max_records=RECORDS_PER_POLL)
        for records in fetched.values():
            await asyncio.to_thread(reading.add, [record for record in records if record.offset < end])
