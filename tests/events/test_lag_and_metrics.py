"""What others see of a worker: Kafka's own commits, which only lag tools read, and its metrics."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client import REGISTRY

from libs.events import consumer, lag
from libs.events.sink import PartitionBatch
from tests.events.conftest import Worker, another, applied, send, until, until_applied
from tests.factories import an_inventory_update

SALES = [an_inventory_update(f"A-{number}") for number in range(30)]


async def committed(worker: Worker) -> dict[TopicPartition, int]:
    """What Kafka believes of the group."""
    admin = AIOKafkaAdminClient(**worker.kafka.connection())
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(worker.kafka.topic(worker.group))
    finally:
        await admin.close()
    return {partition: found.offset for partition, found in offsets.items() if found.offset >= 0}


async def ends(worker: Worker) -> dict[TopicPartition, int]:
    """The ends of all partitions that have records."""
    found = await lag.end_offsets(worker.kafka, [worker.kafka.topic("inventory-events")])
    return {partition: end for partition, end in found.items() if end}


async def commit(worker: Worker, offsets: dict[TopicPartition, int]) -> None:
    """Tell Kafka what is not so, as an operator might who resets a group."""
    meddler = AIOKafkaConsumer(
        **worker.kafka.connection(), group_id=worker.kafka.topic(worker.group), enable_auto_commit=False
    )
    meddler.assign(list(offsets))
    await meddler.start()
    try:
        await meddler.commit(offsets)
    finally:
        await meddler.stop()


def metric(name: str, worker: Worker, **labels: str) -> float:
    """A metric of the worker's group as Prometheus would get it, all partitions of the topic summed."""
    wanted = {"group": worker.group, **labels}
    samples = [sample for family in REGISTRY.collect() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if wanted.items() <= sample.labels.items())


async def test_kafka_is_told_how_far_a_worker_has_come_while_it_runs_and_when_it_stops(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "COMMIT_SECONDS", 0.1)

    async def told() -> bool:
        return await committed(worker) == await ends(worker)

    await send(worker.kafka, *SALES[:20])
    async with worker.running():
        await until_applied(worker, 20)
        await until(told)
        monkeypatch.setattr(consumer, "COMMIT_SECONDS", 600.0)
        await send(worker.kafka, *SALES[20:])
        await until_applied(worker, 30)
        assert not await told()

    assert await told()


@pytest.mark.parametrize("claimed", ["nothing", "everything"])
async def test_what_kafka_has_been_told_decides_nothing(worker: Worker, claimed: str) -> None:
    await send(worker.kafka, *SALES[:20])
    async with worker.running():
        await until_applied(worker, 20)
    await send(worker.kafka, *SALES[20:])
    await commit(worker, await ends(worker) if claimed == "everything" else dict.fromkeys(await ends(worker), 0))

    async with another(worker).running():
        await until_applied(worker, 30)

    assert await applied(worker) == sorted(str(sale.event_id) for sale in SALES)


async def test_lag_shows_in_records_and_seconds_until_the_records_are_written(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "COMMIT_SECONDS", 0.05)
    go_on = asyncio.Event()

    async def wait(_batches: Sequence[PartitionBatch]) -> None:
        await go_on.wait()

    slow = another(worker, trouble=wait, flush_max_bytes=1)
    await send(worker.kafka, *SALES)
    async with slow.running():

        async def behind() -> bool:
            messages, seconds = (metric(f"stockflow_consumer_lag_{unit}", worker) for unit in ("messages", "seconds"))
            return messages > 0 and seconds > 0

        async def caught_up() -> bool:
            messages, seconds = (metric(f"stockflow_consumer_lag_{unit}", worker) for unit in ("messages", "seconds"))
            return messages == 0 and seconds == 0

        await until(behind)
        go_on.set()
        await until_applied(worker, 30)
        await until(caught_up)


async def test_the_metrics_tell_what_became_of_every_record(worker: Worker) -> None:
    unknown = b'{"eventId": "7f1f1a2e-9d0e-4a7e-8f6e-2b9f3a4c5d6e", "eventType": "NEVER_HEARD_OF"}'
    await send(worker.kafka, *SALES, b"garbage", unknown)
    async with worker.running():
        await until_applied(worker, 30)

        async def all_written() -> bool:
            return metric("stockflow_consumer_dead_letters_total", worker) == 1

        await until(all_written)

    assert metric("stockflow_consumer_applied_total", worker, topic="inventory-events") == 30
    assert metric("stockflow_consumer_skipped_total", worker) == 1
    assert metric("stockflow_consumer_rebalances_total", worker) >= 1
    assert metric("stockflow_consumer_batch_records_sum", worker) == 31
    writes = metric("stockflow_consumer_batch_records_count", worker)
    assert metric("stockflow_consumer_write_seconds_count", worker) == writes >= 1
    assert metric("stockflow_consumer_latency_seconds_count", worker) >= 1
    assert metric("stockflow_consumer_latency_seconds_sum", worker) > 0
    for never in ("fenced", "offset_gaps", "transient_errors", "commit_errors"):
        assert metric(f"stockflow_consumer_{never}_total", worker) == 0, never
