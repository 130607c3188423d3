"""Questions to the broker that need no consumer group."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from libs.events import client
from libs.events.settings import KafkaSettings

ANSWER_SECONDS = 10.0


async def end_offsets(settings: KafkaSettings, topics: Collection[str]) -> dict[TopicPartition, int]:
    """The offset after the last record of each partition; topics as the broker knows them."""
    async with _reader(settings) as consumer:
        offsets: dict[TopicPartition, int] = await consumer.end_offsets(await partitions(consumer, topics))
        return offsets


async def beginning_offsets(settings: KafkaSettings, topics: Collection[str]) -> dict[TopicPartition, int]:
    """The offset of the first record that each partition still has; topics as the broker knows them."""
    async with _reader(settings) as consumer:
        offsets: dict[TopicPartition, int] = await consumer.beginning_offsets(await partitions(consumer, topics))
        return offsets


async def partitions(consumer: AIOKafkaConsumer, topics: Collection[str]) -> list[TopicPartition]:
    """The partitions of those topics that the broker knows. Nothing is subscribed to, so nothing is read ahead."""
    await consumer.topics()
    numbers = {topic: consumer.partitions_for_topic(topic) or () for topic in topics}
    return sorted(TopicPartition(topic, number) for topic, found in numbers.items() for number in found)


async def event_ids_at(
    settings: KafkaSettings, places: Mapping[TopicPartition, int]
) -> dict[TopicPartition, str | None]:
    """The `eventId` of the record at each place; partitions whose record at that offset is gone are left out."""
    found: dict[TopicPartition, str | None] = {}
    if not places:
        return found
    async with _reader(settings) as consumer:
        consumer.assign(list(places))
        for partition, offset in places.items():
            consumer.seek(partition, offset)
        open_places = set(places)
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                while open_places:
                    fetched = await consumer.getmany(*open_places, timeout_ms=500, max_records=len(open_places))
                    for partition, records in fetched.items():
                        open_places.discard(partition)
                        if records and records[0].offset == places[partition]:
                            found[partition] = event_id(records[0])
    return found


def event_id(record: ConsumerRecord) -> str | None:
    """The id of an event from its header, else from its value; None when it has none."""
    for name, value in record.headers or ():
        if name == "ce_id" and value is not None:
            return _stored(value.decode(errors="replace"))
    try:
        fields = json.loads(record.value or b"")
    except (ValueError, RecursionError):
        return None
    value = fields.get("eventId") if isinstance(fields, dict) else None
    return _stored(value) if isinstance(value, str) else None


def _stored(text: str) -> str:
    """Text as Postgres takes it: without NUL and lone surrogates."""
    return text.replace("\0", "").encode(errors="replace").decode()


@asynccontextmanager
async def _reader(settings: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **settings.connection(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        # One record of each partition is wanted, and all that is fetched beside it stays in memory.
        fetch_max_bytes=settings.max_message_bytes,
        max_partition_fetch_bytes=settings.max_message_bytes,
    )
    try:
        await client.start(consumer)
        yield consumer
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(consumer.stop(), ANSWER_SECONDS)
