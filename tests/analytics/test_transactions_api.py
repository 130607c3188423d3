"""Transaction history through REST, written by the running consumer."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import httpx
from aiokafka import TopicPartition

from libs.events import outbox
from libs.events.consumer import Runner
from libs.events.envelope import Event
from libs.events.producer import producer
from libs.events.settings import KafkaSettings
from services.analytics.consumer import TOPICS, HistorySink
from tests.analytics.factories import NOW, a_batch, a_line, a_transaction, a_velocity

BASE = "/transactions"
PLACE = TopicPartition("inventory-events", 0)


async def publish(kafka: KafkaSettings, events: Sequence[Event], *extra: bytes) -> None:
    sender = producer(kafka, "test")
    await sender.start()
    for event in events:
        message = outbox.message(event)
        await sender.send_and_wait(kafka.topic(message.topic), message.value, key=message.key.encode())
    for value in extra:
        await sender.send_and_wait(kafka.topic("inventory-events"), value)
    await sender.stop()


async def caught_up(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while any(item["lag"] for item in (await client.get("/consumers")).json()["items"]):
            await asyncio.sleep(0.1)


async def test_events_of_all_topics_reach_history_and_poison_the_dead_letters(
    client: httpx.AsyncClient, sink: HistorySink, kafka: KafkaSettings
) -> None:
    await publish(kafka, [a_transaction(str(number)) for number in range(20)] * 2, b"no event at all")
    await publish(kafka, [a_velocity(1.0, revision=1)])
    stop = asyncio.Event()
    runner = Runner(sink, topics=TOPICS, kafka=kafka, flush_max_age_seconds=0.05)
    work = asyncio.create_task(runner.run(stop))

    await caught_up(client)
    stop.set()
    await work

    assert len((await client.get(BASE, params={"limit": 100})).json()["items"]) == 20
    (letter,) = (await client.get("/dead-letters")).json()["items"]
    assert (letter["group"], letter["errorClass"]) == ("analytics-history", "NotAnEvent")


async def write(sink: HistorySink, *events: Event) -> None:
    claim = await sink.claim([PLACE])
    await sink.write([a_batch(*events, epoch=claim[PLACE].epoch)])


async def test_history_is_paged_newest_first(client: httpx.AsyncClient, sink: HistorySink) -> None:
    events = [a_transaction(str(number), occurred_at=NOW + timedelta(hours=number // 2)) for number in range(7)]
    await write(sink, *events)

    seen, cursor = [], ""
    while cursor is not None:
        page = (await client.get(BASE, params={"limit": 3} | ({"cursor": cursor} if cursor else {}))).json()
        seen += page["items"]
        cursor = page["nextCursor"]

    assert len({item["transactionId"] for item in seen}) == 7
    assert [item["occurredAt"] for item in seen] == sorted((item["occurredAt"] for item in seen), reverse=True)


async def test_history_is_found_by_sku_warehouse_reference_type_and_time(
    client: httpx.AsyncClient, sink: HistorySink
) -> None:
    tomorrow = NOW + timedelta(days=1)
    await write(
        sink,
        a_transaction("both", a_line(1, sku="A", warehouse_id="X"), a_line(2, sku="B", warehouse_id="Y")),
        a_transaction("later", a_line(sku="A", warehouse_id="Y"), occurred_at=tomorrow, reference_id="R1"),
    )

    async def count(**query: str) -> int:
        answer = await client.get(BASE, params=query)
        assert answer.status_code == 200, answer.text
        return len(answer.json()["items"])

    assert await count(sku="A") == 2
    assert await count(sku="A", warehouseId="Y") == 1
    assert await count(sku="B", warehouseId="X") == 0
    assert await count(referenceId="R1") == 1
    assert await count(transactionType="SALE") == 2
    assert await count(transactionType="RECEIPT") == 0
    assert await count(occurredFrom=(NOW + timedelta(seconds=1)).isoformat()) == 1
    assert await count(occurredTo=NOW.isoformat()) == 0


async def test_money_is_answered_exactly(client: httpx.AsyncClient, sink: HistorySink) -> None:
    await write(sink, a_transaction("one", a_line(unit_price=Decimal("12345678.123450"))))

    (item,) = (await client.get(BASE)).json()["items"]

    assert item["lines"][0]["unitPrice"] == "12345678.123450"


async def test_a_cursor_of_another_list_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get(BASE, params={"cursor": "bm9wZQ"})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-cursor")
