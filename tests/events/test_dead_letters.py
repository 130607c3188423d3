import asyncio
from collections.abc import Sequence
from typing import cast

import asyncpg
import pytest

from libs.events import dead_letter_retry
from libs.events.dead_letter_retry import NotPending, Status, Undecodable, UnknownDeadLetter
from libs.events.postgres import Handler
from libs.events.sink import PartitionBatch
from tests.factories import an_inventory_update

EVENT = an_inventory_update()
GOOD = EVENT.model_dump_json().encode()


async def _bury(pool: asyncpg.Pool, value: bytes, error_class: str = "ValueError", *, minutes_ago: int = 0) -> int:
    number: int = await pool.fetchval(
        """
        INSERT INTO dead_letter (group_name, topic, partition, record_offset, key, value, headers, error_class, error,
                                 record_timestamp, updated_at)
        SELECT 'group', 'test-inventory-events', 0, coalesce(max(record_offset), 0) + 1, 'k', $1, '[["ce_id", "eA=="]]',
               $2, 'before', now(), now() - $3 * interval '1 minute'
          FROM dead_letter RETURNING id
        """,
        value,
        error_class,
        minutes_ago,
    )
    return number


async def _letter(pool: asyncpg.Pool, number: int) -> asyncpg.Record:
    letter = await pool.fetchrow("SELECT * FROM dead_letter WHERE id = $1", number)
    assert letter is not None
    return letter


async def _apply(connection: asyncpg.Connection, batches: Sequence[PartitionBatch]) -> None:
    for batch in batches:
        for item in batch.received:
            await connection.execute(
                "INSERT INTO applied (group_name, event_id) VALUES ('retry', $1)", item.event.event_id
            )


async def _fail(connection: asyncpg.Connection, batches: Sequence[PartitionBatch]) -> None:
    await _apply(connection, batches)
    raise ValueError("still no such warehouse")


async def _retry(
    pool: asyncpg.Pool, number: int, handle: Handler = _apply, value: bytes | None = None
) -> dead_letter_retry.Outcome:
    async with pool.acquire() as connection, connection.transaction():
        return await dead_letter_retry.retry(
            cast(asyncpg.Connection, connection), handle, number, by="anna", value=value
        )


async def _applied(pool: asyncpg.Pool) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM applied WHERE group_name = 'retry'")
    return count


async def test_a_retry_applies_the_record_and_closes_the_letter(pool: asyncpg.Pool) -> None:
    number, before = await _bury(pool, GOOD), await _applied(pool)

    outcome = await _retry(pool, number)

    assert outcome.status is Status.RESOLVED
    assert (await _letter(pool, number))["resolved_by"] == "anna"
    assert await _applied(pool) == before + 1


async def test_a_failing_retry_leaves_nothing_behind_but_the_new_reason(pool: asyncpg.Pool) -> None:
    number, before = await _bury(pool, GOOD), await _applied(pool)

    outcome = await _retry(pool, number, _fail)

    letter = await _letter(pool, number)
    assert outcome.status is Status.PENDING
    assert (letter["status"], letter["attempts"], letter["error"]) == ("pending", 2, "still no such warehouse")
    assert await _applied(pool) == before


async def test_an_edited_value_is_applied_and_kept_beside_the_original(pool: asyncpg.Pool) -> None:
    number = await _bury(pool, b"garbage", "NotAnEvent")

    outcome = await _retry(pool, number, value=GOOD)

    letter = await _letter(pool, number)
    assert outcome.status is Status.RESOLVED
    assert (letter["value"], letter["edited_value"]) == (b"garbage", GOOD)


@pytest.mark.parametrize("value", [b"rubbish", GOOD.replace(b"INVENTORY_UPDATE", b"INVENTORY_UPDAET")])
async def test_an_edit_that_is_no_event_of_the_topic_is_refused_and_changes_nothing(
    pool: asyncpg.Pool, value: bytes
) -> None:
    number, before = await _bury(pool, b"garbage", "NotAnEvent"), await _applied(pool)

    with pytest.raises(Undecodable):
        await _retry(pool, number, value=value)

    letter = await _letter(pool, number)
    assert (letter["status"], letter["attempts"], letter["error"]) == ("pending", 1, "before")
    assert await _applied(pool) == before


async def test_a_retried_record_of_an_unknown_type_stays_pending(pool: asyncpg.Pool) -> None:
    number = await _bury(pool, GOOD.replace(b"INVENTORY_UPDATE", b"INVENTORY_UPDAET"))

    outcome = await _retry(pool, number)

    assert outcome.status is Status.PENDING
    assert (await _letter(pool, number))["error_class"] == "UnknownEventType"


async def test_a_failed_retry_keeps_the_class_of_the_cause(pool: asyncpg.Pool) -> None:
    invalid = GOOD.replace(b'"sku":', b'"sku":7,"unused":')
    letters = [await _bury(pool, invalid, "ValidationError"), await _bury(pool, GOOD)]

    async def wrapping(_connection: asyncpg.Connection, _batches: Sequence[PartitionBatch]) -> None:
        raise RuntimeError("wrapped") from LookupError("no such warehouse")

    for number in letters:
        await _retry(pool, number, wrapping)

    classes = [(await _letter(pool, number))["error_class"] for number in letters]
    assert classes == ["ValidationError", "LookupError"]


async def test_a_closed_letter_is_not_applied_again(pool: asyncpg.Pool) -> None:
    number = await _bury(pool, GOOD)
    async with pool.acquire() as connection, connection.transaction():
        await dead_letter_retry.discard(cast(asyncpg.Connection, connection), number, by="anna", note="test data")

    with pytest.raises(NotPending, match="discarded"):
        await _retry(pool, number)
    with pytest.raises(UnknownDeadLetter):
        await _retry(pool, 10**9)


async def test_letters_are_tried_again_by_themselves_when_their_time_has_come(pool: asyncpg.Pool) -> None:
    await pool.execute("DELETE FROM dead_letter")
    due = await _bury(pool, GOOD, minutes_ago=2)
    early = await _bury(pool, GOOD)
    hopeless = await _bury(pool, b"garbage", "NotAnEvent", minutes_ago=2)

    assert await dead_letter_retry.retry_due(pool, "group", _apply) == 1

    statuses = [(await _letter(pool, number))["status"] for number in (due, early, hopeless)]
    assert statuses == ["resolved", "pending", "pending"]


async def test_two_replicas_that_retry_at_once_apply_a_letter_once(pool: asyncpg.Pool) -> None:
    await pool.execute("DELETE FROM dead_letter")
    before = await _applied(pool)
    await _bury(pool, GOOD, minutes_ago=2)

    resolved = await asyncio.gather(*(dead_letter_retry.retry_due(pool, "group", _apply) for _ in range(3)))

    assert sorted(resolved) == [0, 0, 1]
    assert await _applied(pool) == before + 1
