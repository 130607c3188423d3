"""Records that Kafka takes and that no producer of ours sends: each is applied or buried, and nothing stops."""

import json
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from aiokafka import ConsumerRecord

from libs.events import dead_letter, lag
from tests.events.conftest import Worker, applied, sending, until, until_applied
from tests.factories import an_eight_field_message, an_inventory_update

GOOD = an_inventory_update().model_dump_json().encode()


async def applied_and_buried(worker: Worker, value: bytes, **record: Any) -> list[asyncpg.Record]:
    """Send a record between two good ones; the dead letters once the good ones are applied."""
    sales = [an_inventory_update("A", number) for number in (1, 2)]
    async with sending(worker.kafka) as sender:
        topic = worker.kafka.topic("inventory-events")
        await sender.send_and_wait(topic, sales[0].model_dump_json().encode(), partition=0)
        await sender.send_and_wait(topic, value, partition=0, **record)
        await sender.send_and_wait(topic, sales[1].model_dump_json().encode(), partition=0)
    async with worker.running():
        await until_applied(worker, 2)

        async def passed() -> bool:
            query = "SELECT next_offset FROM consumer_offset WHERE group_name = $1 AND partition = 0"
            return bool(await worker.pool.fetchval(query, worker.group) == 3)

        await until(passed)
    return await worker.pool.fetch("SELECT * FROM dead_letter WHERE group_name = $1 ORDER BY id", worker.group)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\0"])
async def test_headers_may_be_null_or_any_bytes(worker: Worker, content: bytes | None) -> None:
    headers = [("ce_id", content), ("ce_type", content), ("other", content)]

    [letter] = await applied_and_buried(worker, b"garbage", headers=headers)

    assert [name for name, _ in json.loads(letter["headers"])] == ["ce_id", "ce_type", "other"]
    assert (letter["event_id"] is None, letter["event_type"] is None) == (content is None, content is None)


@pytest.mark.parametrize(("sent_ms", "year"), [(2**60, 9999), (253_402_300_800_000, 9999), (0, 1970)])
async def test_a_record_of_any_time_is_buried(worker: Worker, sent_ms: int, year: int) -> None:
    [letter] = await applied_and_buried(worker, b"garbage", timestamp_ms=sent_ms)

    assert letter["record_timestamp"].year == year


async def test_an_event_in_a_record_of_any_time_is_applied(worker: Worker) -> None:
    external = json.dumps(an_eight_field_message()).encode()

    assert await applied_and_buried(worker, external, timestamp_ms=2**60) == []
    assert len(await applied(worker)) == 3


def test_a_record_without_a_time_is_of_1970() -> None:
    record = ConsumerRecord("inventory-events", 0, 0, -1, 0, None, GOOD, None, 0, len(GOOD), ())

    assert dead_letter.sent_at(record) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "headers", "event_id"),
    [
        (GOOD, (("ce_id", None),), json.loads(GOOD)["eventId"]),
        (b"garbage", (("ce_id", b"\0a"),), "a"),
        (b'{"eventId": "\\ud800"}', (), "?"),
        (b"[" * 100_000, (), None),
    ],
)
def test_the_id_of_an_odd_record_is_text_that_can_be_stored(
    value: bytes, headers: tuple[tuple[str, bytes | None], ...], event_id: str | None
) -> None:
    record = ConsumerRecord("inventory-events", 0, 0, 0, 0, None, value, None, 0, len(value), headers)

    assert lag.event_id(record) == event_id
