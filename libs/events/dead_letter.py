"""Dead letters: records that could not be applied, kept whole with the reason, and mirrored to `<topic>.dlq`."""

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid5

import asyncpg
from aiokafka import ConsumerRecord

from libs.events.decoding import Poison
from libs.events.outbox import Message, enqueue_messages
from libs.events.sink import PartitionBatch
from libs.events.topics import DEAD_LETTER_SUFFIX, TOPICS

_NAMESPACE = UUID("0d1f5f0a-4a53-5c0c-8f6e-5a8f0f3f2b77")


async def bury(connection: asyncpg.Connection, group: str, batches: Sequence[PartitionBatch]) -> None:
    """Write the poison of some batches, in the transaction that advances their offsets. Repeats change nothing."""
    dead = [(batch, poison) for batch in batches for poison in batch.poison]
    if not dead:
        return
    await connection.executemany(
        """
        INSERT INTO dead_letter (group_name, topic, partition, record_offset, key, value, headers, event_type, event_id,
                                 error_class, error, record_timestamp)
        VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8, $9, $10, $11, $12)
        ON CONFLICT (group_name, topic, partition, record_offset) DO NOTHING
        """,
        [
            (
                group,
                batch.topic,
                batch.partition,
                poison.offset,
                poison.record.key,
                poison.record.value,
                json.dumps(_headers(poison.record)),
                header(poison.record, "ce_type"),
                header(poison.record, "ce_id"),
                poison.error_class,
                printable(poison.error),
                datetime.fromtimestamp(poison.record.timestamp / 1000, UTC),
            )
            for batch, poison in dead
        ],
    )
    await enqueue_messages(connection, [mirror(group, batch.topic, poison) for batch, poison in dead])


def mirror(group: str, topic: str, poison: Poison) -> Message:
    """The record for `<topic>.dlq`: the original value, with the reason and the place in headers."""
    record = poison.record
    place = f"{topic}[{record.partition}]@{record.offset}"
    return Message(
        event_id=uuid5(_NAMESPACE, f"{group}:{place}"),
        topic=_logical(topic) + DEAD_LETTER_SUFFIX,
        key=(record.key or b"").decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}"),
        value=record.value or b"",
        headers={
            "dlq_group": group,
            "dlq_place": place,
            "dlq_error_class": poison.error_class,
            "dlq_error": printable(poison.error)[:1000],
        },
    )


def header(record: ConsumerRecord, name: str) -> str | None:
    """A header as text, None when it is absent or not text."""
    for key, value in record.headers or ():
        if key == name:
            return printable(value.decode(errors="replace"))[:256]
    return None


def printable(text: str) -> str:
    """Text that Postgres stores: without NUL, bounded."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:10_000]


def _headers(record: ConsumerRecord) -> list[list[str]]:
    """All headers, names and base64 values, because a header may repeat and hold any bytes."""
    return [[printable(key), b64encode(value or b"").decode()] for key, value in _items(record)]


def _items(record: ConsumerRecord) -> Iterable[tuple[str, bytes | None]]:
    return record.headers or ()


def _logical(topic: str) -> str:
    """The topic without the deployment's prefix."""
    return next(item.name for item in TOPICS if topic.endswith(item.name))
