"""The REST API, over what the stream, the archive and the metrics wrote."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest
from aiokafka import ConsumerRecord
from redis import asyncio as redis

from libs.chassis.database import Connection, Pool
from libs.events import dead_letter
from libs.events.decoding import Poison
from libs.events.inventory import TransactionType
from libs.events.postgres import as_ranges
from libs.events.settings import KafkaSettings
from services.pipeline.app import create_app
from services.pipeline.archive import LakeSink
from services.pipeline.cache import Cache
from services.pipeline.metrics import Metrics
from services.pipeline.settings import Settings
from services.pipeline.stream import GROUP
from tests.factories import NOON, an_inventory_update
from tests.pipeline.batches import a_batch
from tests.pipeline.test_archive import FIRST, claimed_epoch
from tests.pipeline.test_stream import apply

YESTERDAY = NOON - timedelta(days=1)


@pytest.fixture
async def client(settings: Settings, pool: Pool, redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running API; Redis is empty."""
    async with redis.from_url(redis_url) as store:
        await store.flushdb()
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/v1") as client,
    ):
        yield client


async def apply_two_days(connection: Connection) -> None:
    await apply(
        connection,
        an_inventory_update(
            "A", 1, transaction_type=TransactionType.OPENING_BALANCE, quantity_change=50, timestamp=YESTERDAY
        ),
        an_inventory_update("A", 2, quantity_change=-3, unit_price=Decimal("1.5"), timestamp=YESTERDAY),
        an_inventory_update("A", 3, quantity_change=-4, unit_price=Decimal("1.5")),
        an_inventory_update("B", 1, quantity_change=1, transaction_type=TransactionType.RETURN, warehouse_id="x/y"),
    )


async def test_daily_movements_leave_opening_balances_out(client: httpx.AsyncClient, connection: Connection) -> None:
    await apply_two_days(connection)

    by_date = (await client.get("/daily-movements")).json()["items"]
    by_sku = (await client.get("/daily-movements", params={"groupBy": "sku"})).json()["items"]
    opening = (await client.get("/daily-movements", params={"transactionType": "OPENING_BALANCE"})).json()["items"]

    assert [(day["date"], day["movements"], day["unitsOut"], day["demand"]) for day in by_date] == [
        (YESTERDAY.date().isoformat(), 1, 3, 3),
        (NOON.date().isoformat(), 2, 4, 3),
    ]
    assert [(row["sku"], row["demand"], Decimal(row["value"])) for row in by_sku] == [
        ("A", 7, Decimal("-10.5")),
        ("B", -1, Decimal(0)),
    ]
    assert [(row["movements"], row["unitsIn"]) for row in opening] == [(1, 50)]


async def test_daily_movements_are_filtered_and_paged(client: httpx.AsyncClient, connection: Connection) -> None:
    await apply_two_days(connection)

    first = (await client.get("/daily-movements", params={"limit": 1})).json()
    second = (await client.get("/daily-movements", params={"limit": 1, "cursor": first["nextCursor"]})).json()
    there = (await client.get("/daily-movements", params={"groupBy": "warehouse", "warehouseId": "x/y"})).json()
    today = (await client.get("/daily-movements", params={"dateFrom": NOON.date().isoformat(), "sku": "A"})).json()

    assert [page["items"][0]["date"] for page in (first, second)] == [
        YESTERDAY.date().isoformat(),
        NOON.date().isoformat(),
    ]
    assert second["nextCursor"] is None
    assert [row["warehouseId"] for row in there["items"]] == ["x/y"]
    assert [row["unitsOut"] for row in today["items"]] == [4]


async def test_the_clock_tells_the_day_and_what_waits(
    client: httpx.AsyncClient, connection: Connection, settings: Settings, pool: Pool, cache: Cache
) -> None:
    await apply_two_days(connection)
    before = (await client.get("/clock")).json()
    metrics = Metrics(settings, pool, cache)
    stop = asyncio.Event()
    running = asyncio.create_task(metrics.run(stop))
    async with asyncio.timeout(10):
        while (await client.get("/metrics-backlog")).json()["depth"]:
            await asyncio.sleep(0.02)
    stop.set()
    await running

    after = (await client.get("/clock")).json()

    day = NOON.date().isoformat()
    assert before == {"asOf": day, "mode": "event", "calculatedAsOf": None, "dirtyStockItems": 2}
    assert after == {"asOf": day, "mode": "event", "calculatedAsOf": day, "dirtyStockItems": 0}


async def test_consumers_show_every_partition_and_its_lag(client: httpx.AsyncClient, kafka: KafkaSettings) -> None:
    items = (await client.get("/consumers")).json()["items"]

    assert len(items) == kafka.partitions * (1 + 3)
    assert {item["lag"] for item in items} == {0}
    assert {item["group"] for item in items} == {"pipeline-stream", "pipeline-archive"}
    assert {(item["isPaused"], item["lastError"]) for item in items} == {(False, None)}


async def test_consumers_show_which_ledger_entries_have_not_arrived(
    client: httpx.AsyncClient, connection: Connection
) -> None:
    await apply(connection, *(an_inventory_update("GAP/1", number) for number in (1, 2, 6, 4, 9)))

    items = (await client.get("/consumers")).json()["items"]
    [holed] = [item for item in items if item["gaps"]]
    fact = await connection.fetch("SELECT * FROM sequence_gaps_v1 WHERE sku = 'GAP/1' ORDER BY first_sequence")
    await apply(connection, an_inventory_update("GAP/1", 3), an_inventory_update("GAP/1", 5))
    later = await connection.fetch("SELECT missing FROM sequence_gaps_v1 WHERE sku = 'GAP/1' ORDER BY first_sequence")

    assert [(gap["firstSequence"], gap["lastSequence"]) for gap in holed["gaps"]] == [(3, 3), (5, 5), (7, 8)]
    assert (holed["group"], holed["missingEntries"]) == (GROUP, 4)
    assert {item["missingEntries"] for item in items if item["group"] == GROUP} == {0, 4}
    assert {item["missingEntries"] for item in items if item["group"] != GROUP} == {None}
    assert [as_ranges(row["missing"]) for row in fact] == [((3, 4),), ((5, 6),), ((7, 9),)]
    assert [as_ranges(row["missing"]) for row in later] == [(), (), ((7, 9),)]


async def test_dead_letters_are_listed_and_shown_whole(client: httpx.AsyncClient, connection: Connection) -> None:
    record = ConsumerRecord("inventory-events", 0, 7, 0, 0, b"key", b"\xff", None, 0, 8, ())
    batch = replace(a_batch([]), poison=[Poison(7, record, "NotAnEvent", "not JSON")])
    await dead_letter.bury(connection, GROUP, [batch])

    (listed,) = (await client.get("/dead-letters", params={"status": "pending"})).json()["items"]
    shown = (await client.get(f"/dead-letters/{listed['id']}")).json()

    assert (listed["group"], listed["offset"], listed["error"]) == (GROUP, 7, "not JSON")
    assert (shown["key"], shown["value"]) == ("a2V5", "/w==")
    edit = await client.post(f"/dead-letters/{listed['id']}/edit", json={"value": '{"eventType": "NONE_SUCH"}'})
    assert (edit.status_code, edit.json()["code"]) == (422, "not-an-event")
    assert (await client.get(f"/dead-letters/{listed['id']}")).json() == shown
    assert (await client.get("/dead-letters/999999999")).status_code == 404
    assert (await client.get("/dead-letters", params={"status": "no"})).status_code == 422


async def test_lake_datasets_count_files_and_rows(client: httpx.AsyncClient, settings: Settings, pool: Pool) -> None:
    sink = LakeSink(pool, settings.lake_url, topic_prefix="")
    epoch = await claimed_epoch(sink)
    await sink.write([a_batch([an_inventory_update(), an_inventory_update(sequence=2)], epoch=epoch)])

    (dataset,) = (await client.get("/lake/datasets")).json()["items"]

    assert (dataset["name"], dataset["rows"], dataset["files"]) == (FIRST.topic, 2, 1)
    assert dataset["firstDate"] == dataset["lastDate"] == NOON.date().isoformat()


async def test_reconciliation_names_each_store_that_differs_and_is_not_exact(
    client: httpx.AsyncClient, connection: Connection
) -> None:
    await apply(connection, an_inventory_update("A", 1, quantity_on_hand=7))

    answer = (await client.get("/reconciliation", timeout=60)).json()

    assert answer["exact"] is False
    assert {difference["store"] for difference in answer["differences"]} == {"facts", "hourlyFacts", "positions"}
    assert answer["stores"]["ledger"]["entries"] == 0
    assert answer["stores"]["facts"] == {**answer["stores"]["facts"], "readable": True, "entries": 1, "units": -1}
    assert all(store["readable"] for store in answer["stores"].values())


async def test_reconciliation_is_not_exact_while_a_store_is_away(settings: Settings, pool: Pool) -> None:
    away = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"topic_prefix": "nowhere-"})})
    app = create_app(away)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/v1") as client,
    ):
        answer = (await client.get("/reconciliation", timeout=60)).json()

    assert answer["exact"] is False
    assert answer["stores"]["kafka"]["readable"] is False
    assert "nowhere-" in answer["stores"]["kafka"]["reason"]
