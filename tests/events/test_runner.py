import asyncio
import json
import os
from collections.abc import Sequence

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from libs.events import consumer, dead_letter, lag
from libs.events.consumer import DeadLetterFlood, OffsetGap, TopicRecreated
from libs.events.decoding import Poison
from libs.events.inventory import InventoryUpdate
from libs.events.offsets import PostgresSink
from libs.events.outbox import Message
from libs.events.producer import partition_of
from libs.events.settings import KafkaSettings
from libs.events.sink import Fenced, PartitionBatch, PoisonError, RecordId
from libs.events.topics import TopicMismatch, ensure_topics
from tests.events.conftest import Worker, another, applied, replace_prefix, send, until, until_applied
from tests.events.records import records
from tests.events.test_lag_and_metrics import metric
from tests.factories import an_eight_field_message, an_inventory_update


def _sales(number: int, sku: str = "A") -> list[InventoryUpdate]:
    return [an_inventory_update(sku=f"{sku}-{index}") for index in range(number)]


def _ids(events: Sequence[InventoryUpdate]) -> list[str]:
    return sorted(str(event.event_id) for event in events)


def _partition(worker: Worker, event: InventoryUpdate) -> int:
    return partition_of(event.key.encode(), tuple(range(worker.kafka.partitions)))


async def _dead_letters(worker: Worker) -> list[asyncpg.Record]:
    return await worker.pool.fetch("SELECT * FROM dead_letter WHERE group_name = $1 ORDER BY id", worker.group)


async def _caught_up(worker: Worker) -> bool:
    topic = worker.kafka.topic("inventory-events")
    ends = await lag.end_offsets(worker.kafka, [topic])
    rows = await worker.pool.fetch("SELECT * FROM consumer_offset WHERE group_name = $1", worker.group)
    return {TopicPartition(topic, row["partition"]): row["next_offset"] for row in rows} == {
        partition: end for partition, end in ends.items() if end
    } | {TopicPartition(topic, row["partition"]): None for row in rows if row["next_offset"] is None}


async def test_every_event_is_applied_once_and_a_restart_goes_on_where_it_stopped(worker: Worker) -> None:
    first, second = _sales(100), _sales(100, "B")

    await send(worker.kafka, *first)
    async with worker.running():
        await until_applied(worker, 100)
    await send(worker.kafka, *second)
    again = another(worker)
    async with again.running():
        await until_applied(again, 200)
        await asyncio.sleep(0.3)

    assert await applied(worker) == _ids([*first, *second])
    assert await _caught_up(worker)


async def test_poison_becomes_a_dead_letter_and_its_mirror_and_blocks_nothing(worker: Worker) -> None:
    good = _sales(4)

    await send(worker.kafka, *good[:2], b"garbage\0", None, *good[2:])
    async with worker.running():
        await until_applied(worker, 4)

        async def buried() -> bool:
            return len(await _dead_letters(worker)) == 2

        await until(buried)

    letters = await _dead_letters(worker)
    mirrored = await worker.pool.fetch("SELECT value, headers FROM outbox WHERE topic = 'inventory-events.dlq'")
    assert [letter["value"] for letter in letters] == [b"garbage\0", None]
    assert {letter["error_class"] for letter in letters} == {"NotAnEvent"}
    assert [row["value"] for row in mirrored] == [b"garbage\0", b""]
    assert await applied(worker) == _ids(good)
    assert await _caught_up(worker)


async def test_a_record_as_large_as_a_message_may_be_stops_nobody(worker: Worker) -> None:
    largest = os.urandom(worker.kafka.max_message_bytes - 200)
    sale, *_ = _sales(1)

    await send(worker.kafka, largest, sale)
    async with worker.running():
        await until_applied(worker, 1)

        async def buried() -> bool:
            return len(await _dead_letters(worker)) == 1

        await until(buried)

    [letter] = await _dead_letters(worker)
    assert len(largest) > consumer.FETCH_BYTES
    assert letter["value"] == largest


def test_a_mirror_fits_into_a_message_whatever_it_mirrors() -> None:
    def mirrored(size: int) -> Message:
        record = records(bytes(size))[0]
        return dead_letter.mirror("group", "inventory-events", Poison(0, record, "ValueError", "\0" * 5_000), 100_000)

    assert [len(mirrored(size).value) for size in (90_000, 99_000)] == [90_000, 0]
    assert mirrored(99_000).headers["dlq_value_omitted"] == "99000"
    assert "dlq_value_omitted" not in mirrored(90_000).headers


async def test_a_record_that_the_handler_cannot_apply_is_found_and_buried_alone(worker: Worker) -> None:
    sales = _sales(50)
    cursed = sales[17].event_id

    async def refuse(batches: Sequence[PartitionBatch]) -> None:
        if any(item.event.event_id == cursed for batch in batches for item in batch.received):
            raise ValueError("no such warehouse")

    troubled = another(worker, trouble=refuse)
    await send(worker.kafka, *sales)
    async with troubled.running():
        await until_applied(worker, 49)

        async def buried() -> bool:
            return bool(await _dead_letters(worker))

        await until(buried)

    [letter] = await _dead_letters(worker)
    assert (letter["event_id"], letter["error_class"], letter["error"]) == (None, "ValueError", "no such warehouse")
    assert await applied(worker) == _ids([sale for sale in sales if sale.event_id != cursed])


async def test_records_that_the_handler_names_are_buried_without_a_search(worker: Worker) -> None:
    calls = 0

    async def refuse(batches: Sequence[PartitionBatch]) -> None:
        nonlocal calls
        calls += 1
        named = [
            RecordId(batch.topic, batch.partition, item.offset)
            for batch in batches
            for item in batch.received
            if item.event.sku == "A-3"
        ]
        if named:
            raise PoisonError(dict.fromkeys(named, "from the future"))

    await send(worker.kafka, *_sales(5))
    async with another(worker, trouble=refuse).running():
        await until_applied(worker, 4)

    assert [letter["error"] for letter in await _dead_letters(worker)] == ["from the future"]
    assert calls <= 5


async def test_a_database_that_is_away_only_delays_and_the_reason_is_shown_meanwhile(worker: Worker) -> None:
    failures = 3
    shown: list[str | None] = []

    async def last_error() -> str | None:
        query = "SELECT max(last_error) FROM consumer_offset WHERE group_name = $1"
        return await worker.pool.fetchval(query, worker.group)  # type: ignore[no-any-return]

    async def away(_batches: Sequence[PartitionBatch]) -> None:
        nonlocal failures
        shown.append(await last_error())
        if failures:
            failures -= 1
            raise asyncpg.CannotConnectNowError("the database system is starting up")

    sales = _sales(20)
    await send(worker.kafka, *sales)
    async with another(worker, trouble=away).running():
        await until_applied(worker, 20)

    assert failures == 0
    assert shown[:2] == [None, "CannotConnectNowError('the database system is starting up')"]
    assert await last_error() is None
    assert await applied(worker) == _ids(sales)
    assert await _dead_letters(worker) == []


async def test_a_partition_that_cannot_be_written_waits_alone_and_keeps_its_order(worker: Worker) -> None:
    locked, free = an_inventory_update("LOCKED"), _sales(20)
    partition_of_locked = asyncio.get_running_loop().create_future()
    is_locked = True
    order: list[str] = []

    async def deadlock(batches: Sequence[PartitionBatch]) -> None:
        for batch in batches:
            if is_locked and any(item.event.sku == "LOCKED" for item in batch.received):
                if not partition_of_locked.done():
                    partition_of_locked.set_result(batch.partition)
                raise asyncpg.DeadlockDetectedError("somebody holds these rows")
        order.extend(str(item.event.event_id) for batch in batches for item in batch.received)

    async def last_errors() -> dict[int, str | None]:
        rows = await worker.pool.fetch(
            "SELECT partition, last_error FROM consumer_offset WHERE group_name = $1", worker.group
        )
        return {row["partition"]: row["last_error"] for row in rows}

    troubled = another(worker, trouble=deadlock)
    await send(worker.kafka, locked, *free)
    async with troubled.running():
        partition = await partition_of_locked
        elsewhere = [sale for sale in free if _partition(worker, sale) != partition]
        await until_applied(worker, len(elsewhere))
        assert 0 < len(elsewhere) < 20
        assert set(await applied(worker)) <= set(_ids(elsewhere))
        later = [an_inventory_update(sale.sku, 2) for sale in free]
        await send(worker.kafka, *later)
        later_elsewhere = [sale for sale in later if _partition(worker, sale) != partition]
        await until_applied(worker, len(elsewhere) + len(later_elsewhere))
        errors = await last_errors()
        assert [number for number, error in errors.items() if error] == [partition]

        is_locked = False
        await until_applied(worker, 41)

    assert await applied(worker) == _ids([locked, *free, *later])
    assert all(
        order.index(str(before.event_id)) < order.index(str(after.event_id))
        for before, after in zip(free, later, strict=True)
    )
    assert not any((await last_errors()).values())
    assert await _dead_letters(worker) == []


async def _dead_in_a_row(worker: Worker) -> int:
    query = "SELECT max(dead_letters_in_a_row) FROM consumer_offset WHERE group_name = $1"
    return await worker.pool.fetchval(query, worker.group)  # type: ignore[no-any-return]


async def test_a_hundred_dead_letters_in_a_row_are_kept_raise_an_alarm_and_stop_nothing(worker: Worker) -> None:
    sales = _sales(3)
    await send(worker.kafka, *[b"garbage"] * 60)
    async with worker.running():
        await until(lambda: _caught_up(worker))
        await send(worker.kafka, *[b"garbage"] * 50)
        await until(lambda: _caught_up(worker))
        in_a_row = await _dead_in_a_row(worker)
        await send(worker.kafka, *sales, b"garbage", json.dumps(an_eight_field_message()).encode())
        await until(lambda: _caught_up(worker))

    assert (in_a_row, await _dead_in_a_row(worker)) == (110, 0)
    assert len(await _dead_letters(worker)) == 111
    assert len(await applied(worker)) == 4
    assert metric("stockflow_consumer_dead_letter_floods_total", worker) == 1


async def test_a_worker_that_stops_at_a_flood_goes_on_behind_it_when_it_is_started_again(worker: Worker) -> None:
    kafka = worker.kafka.model_copy(update={"on_dead_letter_flood": "stop"})
    await send(worker.kafka, *[b"garbage"] * 100)

    with pytest.raises(DeadLetterFlood, match="100 records in a row"):
        async with another(worker, kafka=kafka).running() as running:
            await asyncio.wait({running}, timeout=20)

    assert len(await _dead_letters(worker)) == 100
    await send(worker.kafka, *_sales(1))
    async with another(worker, kafka=kafka).running():
        await until_applied(worker, 1)


async def test_a_zombie_writes_nothing(worker: Worker, pool: asyncpg.Pool) -> None:
    partition = TopicPartition(worker.kafka.topic("inventory-events"), 0)

    async def handle(_connection: asyncpg.Connection, _batches: Sequence[PartitionBatch]) -> None:
        return

    sink = PostgresSink(pool, worker.group, handle)
    zombie = (await sink.claim([partition]))[partition]
    owner = (await sink.claim([partition]))[partition]
    batch = PartitionBatch(partition.topic, 0, zombie.epoch, [], [], 7, None)

    with pytest.raises(Fenced):
        await sink.write([batch])
    assert owner.epoch == zombie.epoch + 1
    assert (await sink.claim([partition]))[partition].next_offset is None


async def test_two_workers_share_the_partitions_and_lose_nothing_when_one_leaves(worker: Worker) -> None:
    second = another(worker)
    before, during, after = _sales(60), _sales(60, "B"), _sales(60, "C")

    async def shared() -> bool:
        owned = (len(worker.runner._leases), len(second.runner._leases))
        return min(owned) > 0 and sum(owned) == worker.kafka.partitions

    await send(worker.kafka, *before)
    async with worker.running():
        await until_applied(worker, 60)
        async with second.running():
            await until(shared)
            await send(worker.kafka, *during)
            await until_applied(worker, 120)
        await send(worker.kafka, *after)
        await until_applied(worker, 180)

    assert await applied(worker) == _ids([*before, *during, *after])


async def _recreate(kafka: KafkaSettings) -> None:
    admin = AIOKafkaAdminClient(**kafka.connection())
    await admin.start()
    await admin.delete_topics([kafka.topic("inventory-events")])
    await admin.close()
    await ensure_topics(kafka)


@pytest.mark.parametrize("sent_again", [5, 200], ids=["shorter than before", "grown past the offset"])
async def test_a_recreated_topic_is_noticed_and_read_from_the_start_where_that_is_asked(
    worker: Worker, sent_again: int
) -> None:
    await send(worker.kafka, *_sales(20))
    async with worker.running():
        await until_applied(worker, 20)
    await _recreate(worker.kafka)
    await send(worker.kafka, *_sales(sent_again, "B"))

    with pytest.raises(TopicRecreated, match="republish --all"):
        async with another(worker).running() as running:
            await asyncio.wait({running}, timeout=20)

    restarting = another(worker, kafka=worker.kafka.model_copy(update={"on_topic_recreated": "restart"}))
    async with restarting.running():
        await until_applied(worker, 20 + sent_again)
    assert len(set(await applied(worker))) == 20 + sent_again


async def _delete_records(kafka: KafkaSettings, partition: TopicPartition, before_offset: int) -> None:
    """As retention does it."""
    admin = AIOKafkaAdminClient(**kafka.connection())
    await admin.start()
    try:
        await admin.delete_records({partition: RecordsToDelete(before_offset)})
    finally:
        await admin.close()


@pytest.fixture
async def deprived(worker: Worker) -> Worker:
    """A worker that has applied 5 of 20 records of one partition, of which the broker has deleted the first 10."""
    kafka = worker.kafka
    sales = [an_inventory_update(sku="A", sequence=number) for number in range(1, 21)]
    await send(kafka, *sales[:5])
    async with worker.running():
        await until_applied(worker, 5)
    await send(kafka, *sales[5:])
    ends = await lag.end_offsets(kafka, [kafka.topic("inventory-events")])
    [partition] = [place for place, end in ends.items() if end]
    await _delete_records(kafka, partition, 10)
    return worker


async def test_deleted_records_stop_a_worker_that_had_not_applied_them(deprived: Worker) -> None:
    with pytest.raises(OffsetGap, match=r"begins at 10, .* is at 5: records were deleted before they were applied"):
        async with another(deprived).running() as running:
            await asyncio.wait({running}, timeout=20)


@pytest.mark.parametrize(("policy", "applied_in_all"), [("earliest", 5 + 10), ("latest", 5)])
async def test_a_policy_says_where_to_go_on_after_a_gap(deprived: Worker, policy: str, applied_in_all: int) -> None:
    going_on = another(deprived, kafka=deprived.kafka.model_copy(update={"on_gap": policy}))
    async with going_on.running():
        await until_applied(deprived, applied_in_all)

        async def claimed() -> bool:
            return bool(going_on.runner._leases)

        await until(claimed)
        await send(deprived.kafka, an_inventory_update(sku="A", sequence=21))
        await until_applied(deprived, applied_in_all + 1)

    assert len(await applied(deprived)) == applied_in_all + 1


async def test_one_batch_in_hand_is_finished_when_asked_to_stop(worker: Worker) -> None:
    sales = _sales(30)
    writing = asyncio.Event()

    async def slow(_batches: Sequence[PartitionBatch]) -> None:
        writing.set()
        await asyncio.sleep(0.5)

    await send(worker.kafka, *sales)
    async with another(worker, trouble=slow).running():
        await writing.wait()

    assert len(await applied(worker)) > 0
    async with another(worker).running():
        await until_applied(worker, 30)
    assert await applied(worker) == _ids(sales)


async def test_while_a_write_is_under_way_no_more_is_read_ahead_than_one_write_may_hold(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "MAX_POLL_RECORDS", 10)
    written = []

    async def slow(batches: Sequence[PartitionBatch]) -> None:
        written.append(sum(batch.size for batch in batches))
        await asyncio.sleep(0.1)

    await send(worker.kafka, *_sales(50))
    async with another(worker, trouble=slow, flush_max_bytes=1).running():
        await until_applied(worker, 50)

    assert max(written) <= 10


async def test_a_worker_without_partitions_takes_over_when_the_other_one_leaves(worker: Worker) -> None:
    kafka = replace_prefix(worker.kafka, f"{worker.kafka.topic_prefix}single-").model_copy(update={"partitions": 1})
    await ensure_topics(kafka)
    first, second = another(worker, kafka=kafka), another(worker, kafka=kafka)
    sales = _sales(20)

    async with second.running():
        async with first.running():
            await send(kafka, *sales[:10])
            await until_applied(worker, 10)
        await send(kafka, *sales[10:])
        await until_applied(worker, 20)

    assert await applied(worker) == _ids(sales)


async def test_a_write_that_hangs_makes_the_worker_ask_for_a_restart(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "STALLED_SECONDS", 0.5)
    go_on = asyncio.Event()

    async def hang(_batches: Sequence[PartitionBatch]) -> None:
        await go_on.wait()

    hanging = another(worker, trouble=hang)
    await send(worker.kafka, *_sales(1))
    async with hanging.running():

        async def stalled() -> bool:
            return "has written nothing for" in (hanging.runner.health() or "")

        await until(stalled)
        go_on.set()
        await until_applied(worker, 1)

        async def recovered() -> bool:
            return hanging.runner.health() is None

        await until(recovered)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"partitions": 6}, "has 4 partitions, 6 asked"),
        ({"max_message_bytes": 5_000_000}, "has max.message.bytes=4194304, 5000000 asked"),
    ],
)
async def test_existing_topics_that_do_not_fit_are_refused(
    own_kafka: KafkaSettings, change: dict[str, int], reason: str
) -> None:
    assert await ensure_topics(own_kafka) == []
    with pytest.raises(TopicMismatch, match=reason):
        await ensure_topics(own_kafka.model_copy(update=change))


async def test_a_compacted_topic_is_refused(own_kafka: KafkaSettings) -> None:
    kafka = replace_prefix(own_kafka, f"{own_kafka.topic_prefix}compacted-")
    admin = AIOKafkaAdminClient(**kafka.connection())
    await admin.start()
    await admin.create_topics(
        [NewTopic(kafka.topic("inventory-events"), 4, 1, topic_configs={"cleanup.policy": "compact"})]
    )
    await admin.close()

    with pytest.raises(TopicMismatch, match="is compacted"):
        await ensure_topics(kafka)
