"""`projections rebuild mongo`: the history anew from the topics, beside a worker that goes on."""

import asyncio
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from libs.events.consumer import Runner
from libs.events.dead_letter_retry import Status, Undecodable
from libs.events.producer import producer
from libs.events.settings import KafkaSettings
from libs.operations.generation import AlreadyRunning, NewDeadLetters
from services.analytics.consumer import TOPICS, HistorySink
from services.analytics.dead_letters import MongoDeadLetters
from services.analytics.documents import DocumentStore
from services.analytics.rebuild import LEASE, rebuild
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


async def consume(sink: HistorySink, settings: Settings, mongo: Mongo, *, letters: int) -> None:
    """Run a worker until there are so many dead letters."""
    stop = asyncio.Event()
    runner = Runner(sink, topics=TOPICS, kafka=settings.kafka, flush_max_age_seconds=0.05)
    running = asyncio.create_task(runner.run(stop))
    async with asyncio.timeout(30):
        while await mongo.dead_letters.count_documents({}) < letters:
            await asyncio.sleep(0.05)
    stop.set()
    await running


async def test_what_an_edited_letter_changed_is_there_after_a_rebuild_and_a_discarded_one_stays_so(
    sink: HistorySink, store: DocumentStore, mongo: Mongo, settings: Settings
) -> None:
    correct = a_transaction("correct")
    letters = MongoDeadLetters(store)
    await send(settings.kafka, 1)
    await send(settings.kafka, 2)
    await consume(sink, settings, mongo, letters=2)
    edited, discarded, *_ = await letters.page(None, None, 10)
    with pytest.raises(Undecodable):
        await letters.retry(edited.id, by="anna", value=b'{"eventType": "NONE_SUCH"}')
    await letters.retry(edited.id, by="anna", value=correct.model_dump_json().encode())
    await letters.discard(discarded.id, by="anna", note="rubbish")
    before = await mongo.transactions.find().sort("_id").to_list()

    await rebuild(store, settings, lambda _done, _total: None)

    assert await mongo.transactions.find().sort("_id").to_list() == before
    assert await mongo.transactions.count_documents({"_id": str(correct.event_id)}) == 1
    after = {letter.id: (letter.status, letter.edited_value) for letter in await letters.page(None, None, 10)}
    assert after[edited.id] == (Status.RESOLVED, correct.model_dump_json().encode())
    assert after[discarded.id] == (Status.DISCARDED, None)


async def test_a_rebuild_that_would_lose_a_record_is_refused_unless_it_may_become_a_dead_letter(
    store: DocumentStore, mongo: Mongo, settings: Settings
) -> None:
    await send(settings.kafka, 1)

    with pytest.raises(NewDeadLetters, match=r"NotAnEvent"):
        await rebuild(store, settings, lambda _done, _total: None)
    refused = await mongo.transactions.count_documents({}), await mongo.dead_letters.count_documents({})
    await rebuild(store, settings, lambda _done, _total: None, accept_dead_letters=True)
    letters = await MongoDeadLetters(store).page(Status.PENDING, None, 10)
    await rebuild(store, settings, lambda _done, _total: None)

    assert refused == (0, 0)
    assert await mongo.transactions.count_documents({}) > 0
    assert letters
    assert await MongoDeadLetters(store).page(Status.PENDING, None, 10) == letters


async def test_of_two_rebuilds_at_once_the_second_is_refused(store: DocumentStore, settings: Settings) -> None:
    first = asyncio.create_task(rebuild(store, settings, lambda _done, _total: None, accept_dead_letters=True))
    while await store.hold_lease(LEASE, "nobody", 0):
        await store.end_lease(LEASE, "nobody")
        await asyncio.sleep(0.01)

    with pytest.raises(AlreadyRunning, match="another rebuild of analytics-history"):
        await rebuild(store, settings, lambda _done, _total: None)
    await first
