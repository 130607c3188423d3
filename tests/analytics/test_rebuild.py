"""`projections rebuild mongo`: the history anew from the topics, beside a worker that goes on."""

import asyncio
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from libs.events.consumer import Runner
from libs.events.producer import producer
from libs.events.settings import KafkaSettings
from services.analytics.consumer import TOPICS, HistorySink
from services.analytics.documents import DocumentStore
from services.analytics.rebuild import rebuild
from services.analytics.settings import Settings
from tests.analytics.factories import a_transaction, a_velocity

Mongo = AsyncDatabase[dict[str, Any]]


async def send(kafka: KafkaSettings, *numbers: int) -> None:
    """Publish a posted transaction for each number, a metric and something that is no event."""
    sender = producer(kafka, "test")
    await sender.start()
    try:
        for number in numbers:
            transaction = a_transaction(str(number)).model_dump_json().encode()
            await sender.send_and_wait(kafka.topic("inventory-events"), transaction, key=b"%d" % number)
        metric = a_velocity(1.0, revision=max(numbers)).model_dump_json().encode()
        await sender.send_and_wait(kafka.topic("analytics-events"), metric, key=b"metric")
        await sender.send_and_wait(kafka.topic("inventory-events"), b"garbage", key=b"garbage")
    finally:
        await sender.stop()


async def until_kept(mongo: Mongo, documents: int) -> None:
    """Wait until the history holds so many transactions."""
    async with asyncio.timeout(30):
        while await mongo.transactions.count_documents({}) < documents:
            await asyncio.sleep(0.05)


async def test_documents_that_were_lost_changed_or_invented_are_as_the_topics_tell_and_the_worker_goes_on(
    store: DocumentStore, mongo: Mongo, settings: Settings
) -> None:
    stop = asyncio.Event()
    kafka = settings.kafka
    worker = asyncio.create_task(
        Runner(HistorySink(store, kafka, owner="worker"), topics=TOPICS, kafka=kafka, flush_max_age_seconds=0.05).run(
            stop
        )
    )
    await send(kafka, *range(1, 21))
    await until_kept(mongo, 20)
    [first, second] = await mongo.transactions.find().sort("_id").limit(2).to_list()
    await mongo.transactions.delete_one({"_id": first["_id"]})
    await mongo.transactions.update_one({"_id": second["_id"]}, {"$set": {"actor": "nobody"}})
    await mongo.transactions.insert_one({"_id": "invented"})
    await mongo.metric_history.delete_many({})

    await rebuild(store, settings, lambda _done, _total: None)
    rebuilt = await mongo.transactions.find().sort("_id").to_list()
    await send(kafka, *range(21, 31))
    await until_kept(mongo, 30)
    stop.set()
    await worker

    assert len(rebuilt) == 20
    assert rebuilt[:2] == [first, second]
    assert await mongo.transactions.count_documents({}) == 30
    assert [metric["revision"] async for metric in mongo.metric_history.find()] == [30]
    assert await mongo.dead_letters.count_documents({}) == 2
    assert not [name for name in await mongo.list_collection_names() if name.startswith("rebuild_")]
    assert "referenceId_-1_occurredAt_-1__id_-1" in await mongo.transactions.index_information()
