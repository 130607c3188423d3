"""The stream on the real Postgres: whatever the order, the facts are those of a plain-Python oracle."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.chassis.database import Connection, Pool
from libs.events.envelope import BaseEvent, stock_item_event_id
from libs.events.inventory import (
    ExternalInventoryUpdate,
    InventoryUpdate,
    LevelChangeCause,
    StockLevelChange,
    StockStatus,
    TransactionType,
)
from libs.events.sink import PoisonError, RecordId
from services.pipeline import stream
from tests.factories import NOON, an_inventory_update
from tests.pipeline.batches import TOPIC, a_batch
from tests.pipeline.conftest import empty_tables
from tests.stack import Database

ITEMS = [("A", "BERLIN-1"), ("A", "United Kingdom"), ("a/b", "BERLIN-1")]
SIGNS = {
    TransactionType.SALE: (-9, -1),
    TransactionType.RETURN: (1, 9),
    TransactionType.RECEIPT: (1, 9),
    TransactionType.OPENING_BALANCE: (1, 9),
    TransactionType.ADJUSTMENT: (-9, 9),
}


async def apply(connection: Connection, *events: BaseEvent, flush: int = 1000) -> None:
    """What the sink does, without offsets: one transaction per flush."""
    for start in range(0, len(events), flush):
        async with connection.transaction():
            await stream.handle(connection, [a_batch(events[start : start + flush], first_offset=start)])


def a_level_change(revision: int, **facts: Any) -> StockLevelChange:
    fields: dict[str, Any] = {
        "event_id": stock_item_event_id("STOCK_LEVEL_CHANGE", "BERLIN-1", "LAPTOP-001", revision),
        "timestamp": NOON,
        "recorded_at": NOON,
        "source": "api",
        "quantity_on_hand": 100,
        "quantity_reserved": 0,
        "quantity_available": 100,
        "reorder_point": None,
        "reorder_quantity": None,
        "stock_status": StockStatus.IN_STOCK,
        "cause": LevelChangeCause.RESERVATION,
    }
    return StockLevelChange(sku="LAPTOP-001", warehouse_id="BERLIN-1", revision=revision, **{**fields, **facts})


def an_external_update(**facts: Any) -> ExternalInventoryUpdate:
    fields: dict[str, Any] = {
        "event_id": uuid4(),
        "sku": "LAPTOP-001",
        "warehouse_id": "BERLIN-1",
        "quantity_change": -2,
        "timestamp": NOON,
    }
    return ExternalInventoryUpdate(**{**fields, **facts})


@st.composite
def ledgers(draw: st.DrawFn) -> list[InventoryUpdate]:
    """A few ledger entries of some stock items, in order of sequence."""
    entries = []
    for sku, warehouse_id in ITEMS:
        for sequence in range(1, draw(st.integers(0, 12)) + 1):
            transaction_type = draw(st.sampled_from(list(SIGNS)))
            entries.append(
                an_inventory_update(
                    sku,
                    sequence,
                    warehouse_id=warehouse_id,
                    transaction_type=transaction_type,
                    quantity_change=draw(st.integers(*SIGNS[transaction_type]).filter(bool)),
                    timestamp=NOON - timedelta(minutes=draw(st.integers(0, 60 * 72))),
                    unit_price=draw(st.sampled_from([None, Decimal("1.25"), Decimal("-0.000001")])),
                    unit_cost=draw(st.sampled_from([None, Decimal("0.75")])),
                )
            )
    return entries


@st.composite
def arrivals(draw: st.DrawFn) -> list[InventoryUpdate]:
    """A ledger as a bad producer sends it: with gaps, repeats, and in any order."""
    ledger = draw(ledgers())
    arrived = [entry for entry in ledger if draw(st.integers(0, 9))]
    repeats = draw(st.lists(st.sampled_from(arrived), max_size=8)) if arrived else []
    return draw(st.permutations(arrived + repeats))


def worth(entry: InventoryUpdate) -> Decimal:
    is_demand = entry.transaction_type in (TransactionType.SALE, TransactionType.RETURN)
    return entry.quantity_change * ((entry.unit_price if is_demand else entry.unit_cost) or Decimal())


def expected_facts(arrived: Sequence[InventoryUpdate], period: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The oracle: each ledger entry once, summed with plain Python."""
    facts: dict[tuple[Any, ...], list[Any]] = defaultdict(lambda: [0, 0, 0, Decimal()])
    for entry in {(entry.sku, entry.warehouse_id, entry.sequence): entry for entry in arrived}.values():
        hour = entry.timestamp.replace(minute=0, second=0, microsecond=0)
        bucket = hour if period == "hour" else hour.date()
        fact = facts[entry.sku, entry.warehouse_id, bucket, entry.transaction_type.value]
        fact[0] += 1
        fact[1] += max(entry.quantity_change, 0)
        fact[2] += max(-entry.quantity_change, 0)
        fact[3] += worth(entry)
    return {bucket: tuple(fact) for bucket, fact in facts.items()}


async def stored_facts(connection: Connection, table: str, bucket: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    rows = await connection.fetch(
        f"SELECT sku, warehouse_id, {bucket}, transaction_type, entries, units_in, units_out, value FROM {table}"
    )
    return {tuple(row)[:4]: tuple(row)[4:] for row in rows}


@given(arrived=arrivals(), flush=st.integers(1, 20))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_facts_are_the_oracles_in_any_order_with_repeats_and_gaps(
    database: Database, module_pool: Pool, arrived: list[InventoryUpdate], flush: int
) -> None:
    await empty_tables(database)
    connection: Connection
    async with module_pool.acquire() as connection:  # type: ignore[assignment]
        await apply(connection, *arrived, flush=flush)

        hourly = await stored_facts(connection, "hourly_movement", "bucket_start")
        daily = await stored_facts(connection, "daily_movement", "date")
        positions = await connection.fetch("SELECT sku, warehouse_id, last_sequence, missing FROM stock_position")

    assert hourly == expected_facts(arrived, "hour")
    assert daily == expected_facts(arrived, "day")
    sequences = defaultdict(set)
    for entry in arrived:
        sequences[entry.sku, entry.warehouse_id].add(entry.sequence)
    for position in positions:
        missing = {number for gap in position["missing"] for number in range(gap.lower, gap.upper)}
        known = sequences.pop((position["sku"], position["warehouse_id"]))
        assert position["last_sequence"] == max(known)
        assert missing == set(range(1, max(known))) - known
    assert not sequences


async def test_quantities_are_those_of_the_highest_revision(connection: Connection) -> None:
    newest = an_inventory_update(sequence=2, revision=5, quantity_on_hand=7, quantity_reserved=3)
    older = an_inventory_update(sequence=1, revision=1, quantity_on_hand=9)

    await apply(connection, newest)
    await apply(connection, older)

    position = await connection.fetchrow("SELECT revision, quantity_on_hand, quantity_reserved FROM stock_position")
    assert tuple(position or ()) == (5, 7, 3)


async def test_thresholds_come_from_level_changes_and_outlive_ledger_entries(connection: Connection) -> None:
    change = a_level_change(2, reorder_point=10, reorder_quantity=50, quantity_on_hand=40, quantity_reserved=5)

    await apply(connection, an_inventory_update(sequence=1, revision=3, quantity_on_hand=39))
    await apply(connection, change)

    position = await connection.fetchrow(
        "SELECT quantity_on_hand, reorder_point, reorder_quantity, last_sequence FROM stock_position"
    )
    assert tuple(position or ()) == (39, 10, 50, 1)


async def test_a_gap_is_recorded_and_closes_when_the_late_entry_arrives(connection: Connection) -> None:
    await apply(connection, an_inventory_update(sequence=1), an_inventory_update(sequence=5))
    gap = await connection.fetchrow("SELECT first_sequence, last_sequence FROM sequence_gap")
    assert tuple(gap or ()) == (2, 4)

    await apply(connection, *(an_inventory_update(sequence=number) for number in (4, 2, 3)))

    assert await connection.fetchval("SELECT isempty(missing) FROM stock_position")


async def test_third_parties_are_stored_once_per_day_and_move_nothing(connection: Connection) -> None:
    update = an_external_update()
    on_another_day = update.model_copy(update={"timestamp": NOON - timedelta(days=1)})

    await apply(connection, update, update, on_another_day)

    stored = await connection.fetch(
        "SELECT event_date, quantity_change, origin FROM external_update ORDER BY event_date"
    )
    assert [tuple(row) for row in stored] == [
        (on_another_day.timestamp.date(), -2, "external"),
        (NOON.date(), -2, "external"),
    ]
    assert not await connection.fetchval("SELECT count(*) FROM stock_position")
    assert await connection.fetchval("SELECT as_of FROM clock") is None


async def test_the_clock_is_the_latest_date_and_never_goes_back(connection: Connection) -> None:
    await apply(connection, an_inventory_update(sequence=1))
    await apply(connection, an_inventory_update(sequence=2, timestamp=NOON - timedelta(days=3)))

    assert await connection.fetchval("SELECT as_of FROM clock") == NOON.date()


async def test_an_event_from_the_future_is_poison_and_the_rest_is_not(connection: Connection) -> None:
    ahead = datetime.now(UTC) + timedelta(minutes=6)
    hardly_ahead = datetime.now(UTC) + timedelta(minutes=4)

    with pytest.raises(PoisonError) as poison:
        await apply(
            connection,
            an_inventory_update(sequence=1, timestamp=hardly_ahead),
            an_inventory_update(sequence=2, timestamp=ahead),
        )

    assert set(poison.value.reasons) == {RecordId(TOPIC, 0, 1)}


async def test_an_opening_balance_has_units_but_is_no_movement(connection: Connection) -> None:
    opening = an_inventory_update(transaction_type=TransactionType.OPENING_BALANCE, quantity_change=50)

    await apply(connection, opening)

    published = await connection.fetchrow("SELECT movements, units_in FROM daily_movements_v1")
    assert tuple(published or ()) == (0, 50)


async def test_workers_with_the_same_stock_items_neither_deadlock_nor_lose_a_sum(pool: Pool) -> None:
    items = [f"SKU-{number}" for number in range(50)]

    async def work(worker: int) -> None:
        connection: Connection
        async with pool.acquire() as connection:  # type: ignore[assignment]
            order = items if worker % 2 else items[::-1]
            for sequence in range(worker, 41, 4):
                await apply(connection, *(an_inventory_update(sku, sequence) for sku in order))

    async with asyncio.TaskGroup() as tasks:
        for worker in range(1, 5):
            tasks.create_task(work(worker))

    connection: Connection
    async with pool.acquire() as connection:  # type: ignore[assignment]
        sold = await connection.fetch("SELECT sku, sum(units_out)::int AS units FROM daily_movement GROUP BY sku")
        open_gaps = await connection.fetchval("SELECT count(*) FROM stock_position WHERE NOT isempty(missing)")
    assert {row["sku"]: row["units"] for row in sold} == dict.fromkeys(items, 40)
    assert open_gaps == 0
