"""`events rebuild --group reorder-position`, as a command."""

from typing import Any

from libs.chassis.database import Pool
from libs.events.settings import KafkaSettings
from services.reorder.consumer import GROUP
from services.reorder.settings import Settings
from tests.events.conftest import send
from tests.reorder.factories import a_ledger_entry, a_level_change
from tests.stack import run_command


async def rebuild(settings: Settings) -> tuple[int, str]:
    environment = {"DATABASE_URL": settings.database_url.get_secret_value()}
    return await run_command(
        "reorder", "events", "rebuild", "--group", GROUP, kafka=settings.kafka, environment=environment
    )


async def positions(pool: Pool) -> list[tuple[Any, ...]]:
    rows = await pool.fetch(
        "SELECT sku, last_sequence, missing, revision, quantity_on_hand, reorder_point FROM inventory_position"
    )
    return sorted(tuple(row) for row in rows)


async def test_damaged_positions_are_built_anew_and_what_is_low_is_recommended(
    settings: Settings, pool: Pool, kafka: KafkaSettings
) -> None:
    low = a_level_change(4, revision=9, reorder_point=5, reorder_quantity=20)
    await send(kafka, *(a_ledger_entry(10 - sequence, sequence=sequence) for sequence in range(1, 6)), low)

    first = await rebuild(settings)
    before = await positions(pool)
    await pool.execute("UPDATE inventory_position SET quantity_on_hand = 1000, last_sequence = 3")
    await pool.execute("UPDATE recommendation SET status = 'withdrawn' WHERE status = 'open'")
    second = await rebuild(settings)

    assert (first[0], second[0]) == (0, 0), first[1] + second[1]
    assert [(row[0], row[1], row[3], row[4], row[5]) for row in before] == [("WIDGET", 5, 9, 4, 5)]
    assert await positions(pool) == before
    assert await pool.fetchval("SELECT recommended_quantity FROM recommendation WHERE status = 'open'") == 21
