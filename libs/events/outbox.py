"""The outbox: events are written in the transaction that made them true, and a relay sends them afterwards.

Column conventions are those of Debezium's outbox event router, so a deployment may replace the relay by it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID
from zlib import crc32

import asyncpg

from libs.events.envelope import Event
from libs.events.topics import TOPIC_OF

SHARDS = 16
"""A key always falls into the same shard, and a shard is sent by one relay at a time: that keeps the order of a key."""


@dataclass(frozen=True, slots=True)
class Message:
    """One record to send. `topic` is the name without the deployment's prefix."""

    event_id: UUID
    topic: str
    key: str
    value: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits to be sent, and how much was set aside because the broker refused it."""

    depth: int
    oldest_age_seconds: float
    refused: int


def message(event: Event) -> Message:
    """The record of an event, with CloudEvents headers in Kafka binary mode."""
    return Message(
        event_id=event.event_id,
        topic=TOPIC_OF[event.event_type].name,
        key=event.key,
        value=event.model_dump_json().encode(),
        headers={
            "ce_specversion": "1.0",
            "ce_id": str(event.event_id),
            "ce_type": event.event_type,
            "ce_source": event.source,
            "ce_time": event.timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "content-type": "application/json",
        },
    )


async def enqueue(connection: asyncpg.Connection, events: Iterable[Event]) -> None:
    """Write events to the outbox, in the given order, with one statement.

    Call it in the transaction that holds the locks of the rows which the events are about: then ids rise in
    commit order within each key. An event that already waits (a republish) is not written twice.
    """
    await enqueue_messages(connection, [message(event) for event in events])


async def enqueue_messages(connection: asyncpg.Connection, messages: Sequence[Message]) -> None:
    """As `enqueue`, for records that are encoded already."""
    if not messages:
        return
    await connection.execute(
        """
        INSERT INTO outbox (shard, topic, key, value, headers, event_id)
        SELECT shard, topic, key, value, headers::jsonb, event_id
          FROM unnest($1::smallint[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::uuid[])
               WITH ORDINALITY AS message(shard, topic, key, value, headers, event_id, position)
         ORDER BY position
        ON CONFLICT (event_id) DO NOTHING
        """,
        [crc32(item.key.encode()) % SHARDS for item in messages],
        [item.topic for item in messages],
        [item.key for item in messages],
        [item.value for item in messages],
        [json.dumps(item.headers) for item in messages],
        [item.event_id for item in messages],
    )


async def depth(connection: asyncpg.Connection) -> Depth:
    """How many events wait, for how long the oldest has, and how many do not any more."""
    row = await connection.fetchrow(
        """
        SELECT count(*) FILTER (WHERE refusal IS NULL) AS depth, count(refusal) AS refused,
               min(created_at) FILTER (WHERE refusal IS NULL) AS oldest
          FROM outbox
        """
    )
    assert row is not None
    oldest = row["oldest"]
    age = (datetime.now(UTC) - oldest).total_seconds() if oldest else 0.0
    return Depth(row["depth"], max(age, 0.0), row["refused"])
