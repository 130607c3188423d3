"""Events become positions, recommendations and events, in one transaction."""

import json
from collections.abc import Sequence
from typing import Any

from libs.chassis.database import Pool, acquired
from libs.events.decoding import Received
from libs.events.envelope import Event
from libs.events.sink import PartitionBatch
from services.reorder.consumer import handle
from services.reorder.recommendation import StockItem
from tests.reorder.factories import WIDGET, a_ledger_entry, a_level_change, a_record, a_velocity

GADGET = StockItem("GADGET", "United Kingdom")


async def consume(pool: Pool, *events: Event) -> None:
    received = [Received(offset, event, a_record(event, offset)) for offset, event in enumerate(events)]
    batch = PartitionBatch("inventory-events", 0, 1, received, [], len(received), None)
    async with acquired(pool) as connection, connection.transaction():
        await handle(connection, [batch])


async def add_policy(pool: Pool, item: StockItem, reorder_point: int, order_up_to: int) -> None:
    await pool.execute(
        "INSERT INTO reorder_policy (sku, warehouse_id, kind, reorder_point, order_up_to)"
        " VALUES ($1, $2, 'min_max', $3, $4)",
        *item,
        reorder_point,
        order_up_to,
    )


async def announced(pool: Pool) -> Sequence[tuple[str, dict[str, Any]]]:
    rows = await pool.fetch("SELECT value FROM outbox ORDER BY id")
    events = [json.loads(row["value"]) for row in rows]
    return [(event["eventType"], event) for event in events]


async def test_a_crossing_is_announced_once_and_each_new_figure_after_it(pool: Pool) -> None:
    await add_policy(pool, WIDGET, 10, 50)

    await consume(pool, a_ledger_entry(11, sequence=1))
    await consume(pool, a_ledger_entry(10, sequence=2))
    await consume(pool, a_ledger_entry(10, sequence=2))
    await consume(pool, a_ledger_entry(7, sequence=3))

    events = await announced(pool)
    assert [(name, event["recommendedQuantity"], event["revision"]) for name, event in events] == [
        ("REORDER_TRIGGERED", 40, 1),
        ("REORDER_RECOMMENDATION", 40, 1),
        ("REORDER_RECOMMENDATION", 43, 2),
    ]


async def test_stock_above_the_reorder_point_withdraws_and_the_next_crossing_triggers_again(pool: Pool) -> None:
    await add_policy(pool, WIDGET, 10, 50)

    for sequence, on_hand in enumerate([5, 60, 9], start=1):
        await consume(pool, a_ledger_entry(on_hand, sequence=sequence))

    rows = await pool.fetch("SELECT status, recommended_quantity FROM recommendation ORDER BY created_at")
    assert [tuple(row) for row in rows] == [("withdrawn", 45), ("open", 41)]
    assert [name for name, _ in await announced(pool)].count("REORDER_TRIGGERED") == 2


async def test_thresholds_count_while_there_is_no_policy(pool: Pool) -> None:
    await consume(pool, a_level_change(4, revision=1, reorder_point=5, reorder_quantity=20))

    row = await pool.fetchrow("SELECT recommended_quantity, explanation FROM recommendation")
    assert row is not None
    assert row["recommended_quantity"] == 21
    assert row["explanation"]["source"] == "thresholds"


async def test_a_policy_wins_over_thresholds(pool: Pool) -> None:
    await add_policy(pool, WIDGET, 1, 9)

    await consume(pool, a_level_change(4, revision=1, reorder_point=5, reorder_quantity=20))

    assert await pool.fetchval("SELECT count(*) FROM recommendation") == 0


async def test_one_flush_of_many_items_and_events_ends_like_single_events(pool: Pool) -> None:
    await add_policy(pool, WIDGET, 10, 50)
    await add_policy(pool, GADGET, 10, 30)

    await consume(
        pool,
        a_ledger_entry(20, sequence=1),
        a_ledger_entry(5, sequence=1, item=GADGET),
        a_velocity(2.0),
        a_ledger_entry(8, sequence=3),
        a_ledger_entry(9, sequence=2),
    )

    rows = await pool.fetch("SELECT sku, recommended_quantity, explanation FROM recommendation ORDER BY sku")
    assert [(row["sku"], row["recommended_quantity"]) for row in rows] == [("GADGET", 25), ("WIDGET", 42)]
    assert rows[1]["explanation"]["demand"]["windows"] == [{"days": 7, "velocityPerDay": 2.0}]


async def test_gaps_and_late_events_leave_an_exact_account_of_what_is_missing(pool: Pool) -> None:
    await consume(pool, a_ledger_entry(5, sequence=7))
    await consume(pool, a_ledger_entry(9, sequence=3))

    row = await pool.fetchrow(
        "SELECT last_sequence, missing::text AS missing, quantity_on_hand FROM inventory_position"
    )
    assert row is not None
    assert tuple(row) == (7, "{[1,3),[4,7)}", 5)
    await consume(pool, *(a_ledger_entry(9, sequence=number) for number in (1, 2, 4, 5, 6)))
    assert await pool.fetchval("SELECT missing::text FROM inventory_position") == "{}"
