"""Metrics on the real Postgres and Redis: the SQL says what the definitions say, and everybody hears of it once."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from redis import asyncio as redis

from libs.chassis.database import Connection, Pool
from libs.events.envelope import stock_item_key
from libs.events.inventory import InventoryUpdate, TransactionType
from services.pipeline import metric_queries
from services.pipeline.cache import Cache
from services.pipeline.metrics import Metrics
from services.pipeline.settings import Settings
from tests.factories import NOON, an_inventory_update
from tests.pipeline.conftest import empty_tables
from tests.pipeline.definitions import daily_series, trend, velocity
from tests.pipeline.test_stream import a_level_change, apply
from tests.stack import Database

TODAY = NOON.date()
MOVEMENTS = st.lists(
    st.tuples(
        st.sampled_from(["A", "B", "C", "D"]),
        st.integers(0, 100),
        st.sampled_from([TransactionType.SALE, TransactionType.RETURN, TransactionType.RECEIPT]),
        st.integers(1, 10_000),
    ),
    max_size=40,
)


def entries(movements: list[tuple[str, int, TransactionType, int]]) -> list[InventoryUpdate]:
    sequences: Counter[str] = Counter()
    result = []
    for sku, age, transaction_type, units in movements:
        sequences[sku] += 1
        result.append(
            an_inventory_update(
                sku,
                sequences[sku],
                transaction_type=transaction_type,
                quantity_change=-units if transaction_type is TransactionType.SALE else units,
                timestamp=NOON - timedelta(days=age),
            )
        )
    return result


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[redis.Redis]:
    """An empty Redis."""
    async with redis.from_url(redis_url, decode_responses=True) as client:
        await client.flushdb()
        yield client


@pytest.fixture
def metrics(settings: Settings, pool: Pool, cache: Cache, store: redis.Redis) -> Metrics:
    """The process's work, to be done step by step."""
    return Metrics(settings, pool, cache)


def near(expected: float | None) -> Any:
    return None if expected is None else pytest.approx(expected, rel=1e-9)


async def calculate(metrics: Metrics) -> None:
    await metrics.calculate_marked(asyncio.Event())


async def published(connection: Connection) -> list[dict[str, Any]]:
    """The events in the outbox, which is emptied."""
    rows = await connection.fetch("DELETE FROM outbox RETURNING id, value")
    return [json.loads(row["value"]) for row in sorted(rows, key=lambda row: row["id"])]


@given(MOVEMENTS, st.integers(0, 40))
@hypothesis(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_sql_equals_the_definitions(
    database: Database,
    module_pool: Pool,
    movements: list[tuple[str, int, TransactionType, int]],
    days_ago: int,
) -> None:
    await empty_tables(database)
    as_of = TODAY - timedelta(days=days_ago)
    demand: dict[str, Counter[date]] = defaultdict(Counter)
    for entry in entries(movements):
        is_demand = entry.transaction_type is not TransactionType.RECEIPT
        demand[entry.sku][entry.timestamp.date()] -= entry.quantity_change if is_demand else 0
    items = sorted((sku, "BERLIN-1") for sku in demand)
    connection: Connection
    async with module_pool.acquire() as connection:  # type: ignore[assignment]
        await apply(connection, *entries(movements))
        async with connection.transaction():
            await metric_queries.lock_metrics(connection, items)
            rows = await metric_queries.calculate(connection, items, as_of)

    assert sorted(row["sku"] for row in rows) == sorted(demand)
    for row in rows:
        series = daily_series(demand[row["sku"]], as_of, 90)
        for days in (7, 30, 90):
            window = velocity(series[-days:])
            assert row[f"demand_{days}"] == window.demand
            assert row[f"velocity_{days}"] == pytest.approx(window.per_day, rel=1e-12)
            assert row[f"sd_daily_{days}"] == pytest.approx(window.sd_daily, rel=1e-12)
        expected = trend(series[-60:])
        assert row["slope_per_day"] == pytest.approx(expected.slope_per_day, rel=1e-12)
        assert row["t_statistic"] == near(expected.t_statistic)
        assert row["change_ratio_30d"] == near(expected.change_ratio_30d)
        assert row["direction"] == expected.direction


async def test_each_changed_item_and_bucket_is_published_once(metrics: Metrics, connection: Connection) -> None:
    for sequence in range(1, 6):
        await apply(connection, an_inventory_update("A", sequence), an_inventory_update("B", sequence))

    await calculate(metrics)

    events = await published(connection)
    assert Counter((event["eventType"], event["sku"]) for event in events) == {
        (event_type, sku): 1
        for event_type in ("INVENTORY_PROCESSED", "VELOCITY_CALCULATED", "TREND_ANALYZED")
        for sku in ("A", "B")
    }
    processed = next(event for event in events if event["eventType"] == "INVENTORY_PROCESSED")
    assert (processed["movements"], processed["unitsOut"], processed["revision"]) == (5, 5, 5)
    assert not await metric_queries.has_dirty(connection)


async def test_redis_holds_stock_metrics_low_stock_and_top_movers(
    metrics: Metrics, connection: Connection, store: redis.Redis
) -> None:
    sale = an_inventory_update("A", 1, quantity_change=-7, quantity_on_hand=3, quantity_reserved=1)
    await apply(connection, sale, an_inventory_update("B", 1, quantity_change=-9))

    await calculate(metrics)

    level = json.loads(await store.hget("stock:levels:BERLIN-1", "A") or "")
    metric = json.loads(await store.hget("stock:metrics:BERLIN-1", "A") or "")
    movers = json.loads(await store.hget("stock:top-movers", "7") or "")
    assert (level["quantityOnHand"], level["quantityAvailable"], level["isLow"]) == (3, 2, False)
    assert metric["windows"][0] == {
        "days": 7,
        "demand": 7,
        "velocityPerDay": 1.0,
        "sdDailyDemand": pytest.approx(2.6457513),
    }
    assert movers["items"] == [{"sku": "B", "units": 9}, {"sku": "A", "units": 7}]
    assert await store.smembers("stock:low") == set()


async def test_an_item_enters_and_leaves_the_low_stock_set(
    metrics: Metrics, connection: Connection, store: redis.Redis
) -> None:
    member = stock_item_key("BERLIN-1", "LAPTOP-001")

    await apply(connection, a_level_change(1, reorder_point=10, quantity_on_hand=10, quantity_available=10))
    await calculate(metrics)
    assert await store.smembers("stock:low") == {member}

    await apply(connection, an_inventory_update(sequence=1, revision=2, quantity_change=1, quantity_on_hand=11))
    await calculate(metrics)
    assert await store.smembers("stock:low") == set()


async def test_redis_never_goes_back_to_an_older_revision(cache: Cache, store: redis.Redis) -> None:
    def level(revision: int, on_hand: int) -> dict[str, Any]:
        return {
            "sku": "A",
            "warehouse_id": "W",
            "revision": revision,
            "quantity_on_hand": on_hand,
            "quantity_reserved": 0,
            "reorder_point": None,
            "reorder_quantity": None,
        }

    await cache.write_levels([level(10, 5)])  # type: ignore[list-item]
    await cache.write_levels([level(9, 4)])  # type: ignore[list-item]

    assert await cache.on_hand("W") == {"A": 5}


async def test_a_flushed_redis_is_rebuilt_before_the_next_pass(
    metrics: Metrics, settings: Settings, connection: Connection, cache: Cache, store: redis.Redis
) -> None:
    await apply(connection, *(an_inventory_update(f"SKU-{number}", 1, quantity_on_hand=number) for number in range(10)))
    await calculate(metrics)
    before = await cache.on_hand("BERLIN-1")
    await store.flushdb()

    stop = asyncio.Event()
    running = asyncio.create_task(metrics.run(stop))
    async with asyncio.timeout(10):
        while not await cache.is_built():
            await asyncio.sleep(0.01)
    stop.set()
    await running

    assert await cache.on_hand("BERLIN-1") == before == {f"SKU-{number}": number for number in range(10)}
    assert len(await store.hgetall("stock:metrics:BERLIN-1")) == 10


async def test_a_long_history_of_marks_is_taken_in_parts(
    metrics: Metrics, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.pipeline.metrics.MARKS_PER_BATCH", 3)
    await apply(connection, *[an_inventory_update(sku, 1) for sku in ("A", "B", "C")])
    await connection.execute(
        """
        INSERT INTO dirty_stock_item (sku, warehouse_id)
        SELECT sku, 'BERLIN-1' FROM unnest('{A,B}'::text[]) AS sku CROSS JOIN generate_series(1, 4)
        """
    )
    left = []
    while await metric_queries.has_dirty(connection):
        await calculate(metrics)
        left.append(await connection.fetchval("SELECT count(*) FROM dirty_stock_item"))

    assert left == [4, 1, 0]
    velocities = [event["sku"] for event in await published(connection) if event["eventType"] == "VELOCITY_CALCULATED"]
    assert velocities == ["A", "B", "C", "A", "B", "B"]


async def test_when_the_day_advances_items_whose_windows_move_are_calculated_again(
    metrics: Metrics, connection: Connection
) -> None:
    await apply(connection, an_inventory_update("A", 1, timestamp=NOON - timedelta(days=7), quantity_change=-70))
    stop = asyncio.Event()
    running = asyncio.create_task(metrics.run(stop))
    await until_clean(connection, TODAY - timedelta(days=7))
    await apply(connection, an_inventory_update("B", 1))
    await until_clean(connection, TODAY)
    stop.set()
    await running

    rows = await connection.fetch("SELECT sku, as_of, demand_7, demand_30 FROM stock_metric ORDER BY sku")
    assert [tuple(row) for row in rows] == [("A", TODAY, 0, 70), ("B", TODAY, 1, 1)]


async def test_a_pass_that_takes_longer_than_the_interval_is_not_followed_by_the_next_at_once(
    settings: Settings, pool: Pool, cache: Cache, store: redis.Redis, connection: Connection
) -> None:
    interval = 0.5
    slow = settings.model_copy(update={"metrics_interval_seconds": interval, "metrics_batch_items": 1})
    await apply(connection, an_inventory_update("A", 1), an_inventory_update("B", 1))
    stop = asyncio.Event()
    async with pool.acquire() as blocking:
        async with blocking.transaction():
            await metric_queries.lock_metrics(blocking, [("A", "BERLIN-1")])  # type: ignore[arg-type]
            running = asyncio.create_task(Metrics(slow, pool, cache).run(stop))
            await asyncio.sleep(1.2 * interval)
        await until_published(connection, "B", 1)
        await apply(connection, an_inventory_update("B", 2))
        await until_published(connection, "B", 2)
    stop.set()
    await running

    events = [event for event in await published(connection) if event["eventType"] == "VELOCITY_CALCULATED"]
    first, second = (datetime.fromisoformat(event["recordedAt"]) for event in events if event["sku"] == "B")
    assert second - first >= timedelta(seconds=interval)


async def until_published(connection: Connection, sku: str, revisions: int) -> None:
    query = "SELECT count(*) FROM outbox WHERE value LIKE $1"
    pattern = f'%"VELOCITY_CALCULATED"%"{sku}"%'.encode()
    async with asyncio.timeout(10):
        while await connection.fetchval(query, pattern) < revisions:
            await asyncio.sleep(0.01)


async def until_clean(connection: Connection, day: date) -> None:
    async with asyncio.timeout(10):
        while await metric_queries.has_dirty(connection) or await metric_queries.calculated_as_of(connection) != day:
            await asyncio.sleep(0.01)
