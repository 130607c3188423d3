"""The runner and what the embedded broker does not do, on Apache Kafka.

Offsets without a record, after transactions and compaction; and commits that are refused.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local.apache_kafka import ApacheKafka, Unavailable
from deploy.local.supervisor import Supervisor
from libs.events import consumer, lag
from libs.events.inventory import InventoryUpdate
from libs.events.settings import KafkaSettings
from libs.events.topics import ensure_topics
from tests.events.conftest import Worker, another, applied, send, until, until_applied
from tests.events.test_lag_and_metrics import metric
from tests.factories import an_inventory_update

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_numbers = count(1)


@pytest.fixture(scope="module")
async def apache(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaSettings]:
    """One node of Apache Kafka; skips where it cannot be had."""
    folder = tmp_path_factory.mktemp("apache")
    node = ApacheKafka(folder / "kafka", folder / "logs")
    try:
        programs = await node.programs()
    except Unavailable as reason:
        pytest.skip(f"NO APACHE KAFKA: {reason}")
    async with Supervisor() as nodes:
        await nodes.start(*programs)
        yield KafkaSettings(bootstrap_servers=node.bootstrap_servers, partitions=1, session_timeout_ms=6_000)


@pytest.fixture
def own(apache: KafkaSettings) -> KafkaSettings:
    """Topics of the test's own, which it has to create."""
    return apache.model_copy(update={"topic_prefix": f"t{next(_numbers)}-"})


def sales(sku: str, number: int) -> list[InventoryUpdate]:
    return [an_inventory_update(sku, sequence) for sequence in range(1, number + 1)]


def ids(*events: InventoryUpdate) -> list[str]:
    return sorted(str(event.event_id) for event in events)


@asynccontextmanager
async def transactional(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """A producer whose records count only when their transaction is committed."""
    producer = AIOKafkaProducer(**kafka.connection(), transactional_id=f"{kafka.topic_prefix}producer")
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send_in_transaction(
    producer: AIOKafkaProducer, kafka: KafkaSettings, events: Sequence[InventoryUpdate], *, commits: bool
) -> None:
    """Send events in one transaction, and commit or abort it."""
    await producer.begin_transaction()
    for event in events:
        value = event.model_dump_json().encode()
        await producer.send_and_wait(kafka.topic("inventory-events"), value, key=event.key.encode())
    await (producer.commit_transaction() if commits else producer.abort_transaction())


async def stored_offset(worker: Worker) -> int:
    """Where the group goes on."""
    query = "SELECT next_offset FROM consumer_offset WHERE group_name = $1"
    return await worker.pool.fetchval(query, worker.group)  # type: ignore[no-any-return]


async def test_markers_of_transactions_are_passed_and_aborted_records_never_count(
    own: KafkaSettings, pool: asyncpg.Pool
) -> None:
    first, aborted, second, plain = sales("A", 5), sales("B", 4), sales("C", 3), sales("D", 2)
    await ensure_topics(own)
    worker = Worker(pool, own, own.topic("group"))

    async with transactional(own) as producer:
        await send_in_transaction(producer, own, first, commits=True)
        await send_in_transaction(producer, own, aborted, commits=False)
        async with worker.running():
            await until_applied(worker, 5)
        stopped_at = await stored_offset(worker)
        await send_in_transaction(producer, own, second, commits=True)
    await send(own, *plain)
    async with another(worker).running():
        await until_applied(worker, 5 + 3 + 2)

    assert await applied(worker) == ids(*first, *second, *plain)
    assert stopped_at == 5
    # Three markers and four aborted records have offsets, too.
    assert await stored_offset(worker) == 5 + 3 + 2 + 3 + 4


async def create_compacted(kafka: KafkaSettings) -> None:
    """Create the topic so that only the last record of each key is kept, as soon as possible."""
    configs = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.01",
        "segment.ms": "500",
        "max.compaction.lag.ms": "500",
    }
    admin = AIOKafkaAdminClient(**kafka.connection())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(kafka.topic("inventory-events"), 1, 1, topic_configs=configs)])
    finally:
        await admin.close()


async def offsets_kept(kafka: KafkaSettings) -> set[int]:
    """The offsets that still have a record."""
    topic = kafka.topic("inventory-events")
    [end] = (await lag.end_offsets(kafka, [topic])).values()
    kept: set[int] = set()
    reader = AIOKafkaConsumer(topic, **kafka.connection(), enable_auto_commit=False, auto_offset_reset="earliest")
    await reader.start()
    try:
        while max(kept, default=-1) < end - 1:
            for records in (await reader.getmany(timeout_ms=200)).values():
                kept |= {record.offset for record in records}
    finally:
        await reader.stop()
    return kept


async def test_records_that_compaction_took_leave_holes_that_stop_nobody(
    own: KafkaSettings, pool: asyncpg.Pool
) -> None:
    await create_compacted(own)
    worker = Worker(pool, own, own.topic("group"))
    rounds = [[an_inventory_update(f"S{key}", sequence) for key in range(5)] for sequence in range(1, 5)]
    last = an_inventory_update("LAST")

    await send(own, *rounds[0])
    async with worker.running():
        await until_applied(worker, 5)
    await send(own, *rounds[1], *rounds[2], *rounds[3])
    await asyncio.sleep(1)
    await send(own, last)  # Begins a new segment; the ones before it can be compacted.

    async def compacted() -> bool:
        return await offsets_kept(own) == {15, 16, 17, 18, 19, 20}

    await until(compacted, seconds=120)
    async with another(worker).running():
        await until_applied(worker, 11)

    # The record that the group stopped behind is gone, and so are the ten after it.
    assert await applied(worker) == ids(*rounds[0], *rounds[3], last)
    assert await stored_offset(worker) == 21


async def test_a_commit_that_is_refused_is_counted_and_changes_nothing(
    own: KafkaSettings, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "COMMIT_SECONDS", 600.0)
    await ensure_topics(own)
    worker = Worker(pool, own, own.topic("group"))

    async def is_about_to_commit() -> bool:
        return bool(worker.runner._to_commit)

    first, second = sales("A", 20), sales("B", 10)
    await send(own, *first)
    async with worker.running():
        await until_applied(worker, 20)
        await until(is_about_to_commit)
        coordinator = worker.runner._consumer._coordinator
        member = coordinator.generation, coordinator.member_id
        await coordinator._maybe_leave_group()
        coordinator.generation, coordinator.member_id = member  # The broker has forgotten who does not know it yet.
        await worker.runner._commit_to_kafka()
        assert metric("stockflow_consumer_commit_errors_total", worker) == 1
        await send(own, *second)
        await until_applied(worker, 30)

    assert await applied(worker) == ids(*first, *second)


async def test_a_record_larger_than_a_fetch_is_read(own: KafkaSettings, pool: asyncpg.Pool) -> None:
    largest, sale = os.urandom(own.max_message_bytes - 200), an_inventory_update()
    await ensure_topics(own)
    worker = Worker(pool, own, own.topic("group"))

    await send(own, largest, sale)
    async with worker.running():
        await until_applied(worker, 1)

    assert len(largest) > consumer.FETCH_BYTES
    assert await applied(worker) == ids(sale)
    assert await stored_offset(worker) == 2
