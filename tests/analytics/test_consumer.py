"""Documents and offsets in MongoDB: each event counts once, whatever is repeated."""

import os
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from bson import Decimal128
from pymongo.asynchronous.database import AsyncDatabase

from libs.events import decoding
from libs.events.settings import KafkaSettings
from libs.events.sink import Fenced, PartitionBatch
from libs.events.topics import ensure_topics
from services.analytics.consumer import HistorySink
from services.analytics.documents import DocumentStore
from tests.analytics.factories import a_batch, a_line, a_record, a_transaction, a_velocity
from tests.events.conftest import replace_prefix

PLACE = TopicPartition("inventory-events", 0)

Mongo = AsyncDatabase[dict[str, Any]]


async def epoch_of(sink: HistorySink) -> int:
    return (await sink.claim([PLACE]))[PLACE].epoch


async def test_a_first_claim_knows_no_offset_and_the_next_one_goes_on_where_the_last_ended(sink: HistorySink) -> None:
    first = (await sink.claim([PLACE]))[PLACE]
    await sink.write([a_batch(a_transaction("one"), epoch=first.epoch, first_offset=41)])
    second = (await sink.claim([PLACE]))[PLACE]

    assert (first.next_offset, first.anchor) == (None, None)
    assert (second.next_offset, second.anchor) == (42, "anchor")
    assert second.epoch > first.epoch


async def test_events_written_twice_are_there_once(sink: HistorySink, mongo: Mongo) -> None:
    batch = a_batch(a_transaction("one"), a_transaction("two"), epoch=await epoch_of(sink))

    await sink.write([batch])
    await sink.write([batch])

    assert await mongo.transactions.count_documents({}) == 2


async def test_a_fenced_worker_does_not_move_the_offset(sink: HistorySink) -> None:
    stale = await epoch_of(sink)
    await sink.write([a_batch(a_transaction("one"), epoch=await epoch_of(sink))])

    with pytest.raises(Fenced) as refused:
        await sink.write([a_batch(a_transaction("two"), epoch=stale, first_offset=1)])

    assert refused.value.partitions == {PLACE}
    assert (await sink.claim([PLACE]))[PLACE].next_offset == 1


async def test_of_two_partitions_only_the_one_that_was_lost_stands_still(sink: HistorySink, mongo: Mongo) -> None:
    other = TopicPartition("analytics-events", 3)
    claims = await sink.claim([PLACE, other])
    await sink.claim([PLACE])
    ours = PartitionBatch(other.topic, other.partition, claims[other].epoch, [], [], 9, None)

    with pytest.raises(Fenced) as refused:
        await sink.write([a_batch(a_transaction("one"), epoch=claims[PLACE].epoch), ours])

    assert refused.value.partitions == {PLACE}
    offsets = {row["topic"]: row.get("nextOffset") async for row in mongo.consumer_offsets.find()}
    assert offsets == {"inventory-events": None, "analytics-events": 9}


async def test_why_a_write_is_put_off_is_noted_until_one_succeeds(sink: HistorySink, mongo: Mongo) -> None:
    batch = a_batch(a_transaction("one"), epoch=await epoch_of(sink))

    await sink.note_error([batch], "MongoDB is away")
    noted = await mongo.consumer_offsets.find_one({})
    await sink.write([batch])
    after = await mongo.consumer_offsets.find_one({})

    assert noted is not None
    assert (noted["lastError"], noted.get("nextOffset")) == ("MongoDB is away", None)
    assert after is not None
    assert (after["lastError"], after["nextOffset"]) == (None, 1)


async def test_a_metric_is_replaced_by_larger_revisions_only(sink: HistorySink, mongo: Mongo) -> None:
    epoch = await epoch_of(sink)

    for offset, revision in enumerate([5, 3, 9, 7]):
        await sink.write([a_batch(a_velocity(float(revision), revision=revision), epoch=epoch, first_offset=offset)])

    (metric,) = await mongo.metric_history.find().to_list()
    assert metric["revision"] == 9
    assert metric["windows"][0]["velocityPerDay"] == 9.0


async def test_a_document_of_a_thousand_lines_fits_and_money_stays_exact(sink: HistorySink, mongo: Mongo) -> None:
    lines = [a_line(number, sku="S" * 64, warehouse_id="W" * 64) for number in range(1, 1001)]

    await sink.write([a_batch(a_transaction("big", *lines), epoch=await epoch_of(sink))])

    stored = await mongo.transactions.find_one()
    assert stored is not None
    assert len(stored["lines"]) == 1000
    assert stored["lines"][999]["unitPrice"] == Decimal128("1.25")


async def test_poison_is_kept_once_mirrored_and_passed(sink: HistorySink, mongo: Mongo, kafka: KafkaSettings) -> None:
    topic = kafka.topic("inventory-events")
    place = TopicPartition(topic, 0)
    epoch = (await sink.claim([place]))[place].epoch
    record = a_record(a_transaction("one"), 0, topic)
    poison = decoding.poison(record, ValueError("cannot be"))
    batch = PartitionBatch(topic, 0, epoch, [], [poison], 1, None)

    await sink.write([batch])
    await sink.write([batch])

    (letter,) = await mongo.dead_letters.find().to_list()
    assert (letter["value"], letter["error"], letter["offset"]) == (record.value, "cannot be", 0)
    assert (await sink.claim([place]))[place].next_offset == 1
    mirrored = await first_record(kafka, topic + ".dlq")
    assert mirrored.value == record.value
    assert dict(mirrored.headers)["dlq_error"] == b"cannot be"


async def bury(sink: HistorySink, kafka: KafkaSettings, partition: int, **record: Any) -> ConsumerRecord:
    """Have the sink write a batch of one record, which is poison."""
    place = TopicPartition(kafka.topic("inventory-events"), partition)
    epoch = (await sink.claim([place]))[place].epoch
    dead = replace(a_record(a_transaction("one"), 0, place.topic), partition=partition, **record)
    poison = decoding.poison(dead, ValueError("cannot be"))
    await sink.write([PartitionBatch(place.topic, partition, epoch, [], [poison], 1, None)])
    assert (await sink.claim([place]))[place].next_offset == 1
    return dead


async def test_a_record_that_mongodb_has_no_room_for_is_kept_in_part(
    sink: HistorySink, mongo: Mongo, kafka: KafkaSettings
) -> None:
    """Compressed, such records are small enough for Kafka."""
    headers = [("null", None), *[("many", bytes(100_000))] * 50]
    dead = await bury(sink, kafka, 1, key=bytes(5_000_000), value=bytes(20_000_000), headers=headers, timestamp=2**60)

    letter = await mongo.dead_letters.find_one({"partition": 1})
    assert letter is not None
    assert (len(letter["value"]), letter["valueBytes"]) == (12 * 2**20, 20_000_000)
    assert f"see {dead.topic}[1]@0: cannot be" in letter["error"]
    assert letter["headers"][:2] == [["null", b""], ["many", bytes(100_000)]]
    assert letter["recordTimestamp"].year == 9999


async def test_a_mirror_carries_no_value_that_does_not_fit(
    store: DocumentStore, mongo: Mongo, kafka: KafkaSettings
) -> None:
    other = replace_prefix(kafka, f"{kafka.topic_prefix}large-")
    await ensure_topics(other)
    value = os.urandom(kafka.max_message_bytes - 100)
    await bury(HistorySink(store, other, owner="test"), other, 0, value=value, key=b"key")

    mirrored = await first_record(kafka, other.topic("inventory-events.dlq"))

    assert (mirrored.key, mirrored.value) == (b"key", b"")
    assert dict(mirrored.headers)["dlq_value_omitted"] == str(len(value)).encode()


async def test_a_mirror_that_its_topic_refuses_stops_nothing(
    store: DocumentStore, mongo: Mongo, kafka: KafkaSettings
) -> None:
    narrow = replace_prefix(kafka, f"{kafka.topic_prefix}narrow-").model_copy(update={"max_message_bytes": 40_000})
    await ensure_topics(narrow)
    wide = narrow.model_copy(update={"max_message_bytes": kafka.max_message_bytes})

    await bury(HistorySink(store, wide, owner="test"), wide, 0, value=os.urandom(60_000))

    assert await mongo.dead_letters.count_documents({}) == 1


async def first_record(kafka: KafkaSettings, topic: str) -> Any:
    consumer = AIOKafkaConsumer(topic, **kafka.connection(), auto_offset_reset="earliest")
    await consumer.start()
    try:
        return await consumer.getone()
    finally:
        await consumer.stop()
