"""The topics as a reader without a group sees them."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from libs.events import client
from libs.events.settings import KafkaSettings

MARK = "chaos"
"""Header of every record that this tool injects; its value says what kind it is."""


@asynccontextmanager
async def reader(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group and without partitions."""
    consumer = AIOKafkaConsumer(
        **kafka.connection(), enable_auto_commit=False, max_partition_fetch_bytes=kafka.max_message_bytes
    )
    try:
        await client.start(consumer)
        yield consumer
    finally:
        await consumer.stop()


async def end_offsets(
    consumer: AIOKafkaConsumer, kafka: KafkaSettings, topics: Collection[str]
) -> dict[TopicPartition, int]:
    """The offset after the last record of each partition."""
    partitions = [TopicPartition(topic, number) for topic in topics for number in range(kafka.partitions)]
    ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    return ends


async def read_all(kafka: KafkaSettings, topic: str) -> list[ConsumerRecord]:
    """Every record of a topic, in order within each partition."""
    async with reader(kafka) as consumer:
        ends = await end_offsets(consumer, kafka, [topic])
        return await _read(consumer, dict.fromkeys(ends, 0), ends)


async def read_tail(kafka: KafkaSettings, topic: str, partition: int, most: int) -> list[ConsumerRecord]:
    """The last records of a partition, in order."""
    async with reader(kafka) as consumer:
        place = TopicPartition(topic, partition)
        ends = {place: (await consumer.end_offsets([place]))[place]}
        return await _read(consumer, {place: max(0, ends[place] - most)}, ends)


async def _read(
    consumer: AIOKafkaConsumer, begins: dict[TopicPartition, int], ends: dict[TopicPartition, int]
) -> list[ConsumerRecord]:
    unread = {place for place, begin in begins.items() if begin < ends[place]}
    consumer.assign(list(begins))
    for place, begin in begins.items():
        consumer.seek(place, begin)
    records: list[ConsumerRecord] = []
    while unread:
        for place, fetched in (await consumer.getmany(*unread, timeout_ms=500)).items():
            records += [record for record in fetched if record.offset < ends[place]]
        for place in list(unread):
            if await consumer.position(place) >= ends[place]:
                unread.discard(place)
    return records


def mark(record: ConsumerRecord) -> str | None:
    """What kind of injected record this is, None for the product's own."""
    return next((value.decode() for name, value in record.headers if name == MARK), None)
