"""Dead letters: records that could not be applied, kept whole with the reason, and mirrored to `<topic>.dlq`."""

import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid5

import asyncpg
from aiokafka import ConsumerRecord

from libs.events.decoding import Poison
from libs.events.outbox import Message, enqueue_messages
from libs.events.settings import MAX_MESSAGE_BYTES
from libs.events.sink import PartitionBatch
from libs.events.topics import topic_named

_FRAMING_BYTES = 512
"""More than a batch of one record adds to its key, value and headers."""
_LATEST_MS = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) * 1000
_NAMESPACE = UUID("0d1f5f0a-4a53-5c0c-8f6e-5a8f0f3f2b77")


async def bury(
    connection: asyncpg.Connection,
    group: str,
    batches: Sequence[PartitionBatch],
    *,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> None:
    """Write the poison of some batches, in the transaction that advances their offsets. Repeats change nothing."""
    dead = [(batch, poison) for batch in batches for poison in batch.poison]
    if not dead:
        return
    rows = await connection.fetch(
        """
        INSERT INTO dead_letter (group_name, topic, partition, record_offset, key, value, headers, event_type, event_id,
                                 error_class, error, record_timestamp)
        SELECT $1, topic, partition, record_offset, key, value, headers::jsonb, event_type, event_id,
               error_class, error, record_timestamp
          FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[], $7::text[], $8::text[],
                      $9::text[], $10::text[], $11::text[], $12::timestamptz[])
               AS dead(topic, partition, record_offset, key, value, headers, event_type, event_id,
                       error_class, error, record_timestamp)
        ON CONFLICT (group_name, topic, partition, record_offset) DO NOTHING
        RETURNING topic, partition, record_offset
        """,
        group,
        [batch.topic for batch, _ in dead],
        [batch.partition for batch, _ in dead],
        [poison.offset for _, poison in dead],
        [poison.record.key for _, poison in dead],
        [poison.record.value for _, poison in dead],
        [json.dumps(_headers(poison.record)) for _, poison in dead],
        [header(poison.record, "ce_type") for _, poison in dead],
        [header(poison.record, "ce_id") for _, poison in dead],
        [poison.error_class for _, poison in dead],
        [printable(poison.error) for _, poison in dead],
        [sent_at(poison.record) for _, poison in dead],
    )
    new = {(row["topic"], row["partition"], row["record_offset"]) for row in rows}
    mirrors = [
        mirror(group, batch.topic, poison, max_message_bytes)
        for batch, poison in dead
        if (batch.topic, batch.partition, poison.offset) in new
    ]
    await enqueue_messages(connection, mirrors)


def mirror(group: str, topic: str, poison: Poison, max_message_bytes: int) -> Message:
    """The record for `<topic>.dlq`: the original value, with the reason and the place in headers.

    A value that does not fit into a message with the rest is left out, and `dlq_value_omitted` tells its size: the
    group's dead letter has it, and the topic at `dlq_place`. Keys are cut to 1,000 bytes.
    """
    record, value = poison.record, poison.record.value or b""
    key = (record.key or b"")[:1000].decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    place = f"{topic}[{record.partition}]@{record.offset}"
    headers = {
        "dlq_group": group,
        "dlq_place": place,
        "dlq_error_class": poison.error_class,
        "dlq_error": printable(poison.error)[:1000],
    }
    rest = len(key.encode()) + sum(len(f"{name}{text}".encode()) for name, text in headers.items()) + _FRAMING_BYTES
    if rest + len(value) > max_message_bytes:
        headers["dlq_value_omitted"] = str(len(value))
        value = b""
    return Message(
        event_id=uuid5(_NAMESPACE, f"{group}:{place}"),
        topic=topic_named(topic).dead_letters,
        key=key,
        value=value,
        headers=headers,
    )


def sent_at(record: ConsumerRecord) -> datetime:
    """When a record was sent, as its producer says; 1970 or 9999 where that is a time that no store can hold."""
    return datetime.fromtimestamp(min(max(record.timestamp, 0), _LATEST_MS) / 1000, UTC)


def header(record: ConsumerRecord, name: str) -> str | None:
    """A header as text, None when it is absent or null."""
    for key, value in record.headers or ():
        if key == name and value is not None:
            return printable(value.decode(errors="replace"))[:256]
    return None


def printable(text: str) -> str:
    """Text that Postgres stores: without NUL and lone surrogates, bounded."""
    return text[:10_000].replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _headers(record: ConsumerRecord) -> list[list[str]]:
    """All headers, names and base64 values, because a header may repeat and hold any bytes."""
    return [[printable(key), b64encode(value or b"").decode()] for key, value in record.headers or ()]
