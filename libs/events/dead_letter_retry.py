"""What becomes of dead letters: tried again by their own group's handler, by hand or by themselves, or discarded."""

import json
from base64 import b64decode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import cast

import asyncpg
from aiokafka import ConsumerRecord

from libs.events import dead_letter
from libs.events.decoding import NotAnEvent, decode
from libs.events.postgres import TRANSIENT, Handler
from libs.events.sink import PartitionBatch, PoisonError
from libs.events.topics import topic_named

MOST_ATTEMPTS = 10
"""After so many, a dead letter waits for a person."""

FINAL_CLASSES = (NotAnEvent.__name__, "ValidationError")
"""The bytes themselves are wrong: trying again cannot help until somebody edits them."""


class Status(StrEnum):
    """Where a dead letter stands."""

    PENDING = "pending"
    RESOLVED = "resolved"
    DISCARDED = "discarded"


class UnknownDeadLetter(Exception):
    """There is no such dead letter in this service."""


class NotPending(Exception):
    """The dead letter was resolved or discarded before."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a retry ended."""

    status: Status
    error: str | None


async def retry(
    connection: asyncpg.Connection, handle: Handler, letter_id: int, *, by: str, value: bytes | None = None
) -> Outcome:
    """Apply one dead letter, with another value if one is given; in the caller's transaction.

    The group's handler is called, never the shared topic, so no other group sees the record again. Raises
    UnknownDeadLetter, NotPending, and what says that Postgres is away.
    """
    letter = await _lock(connection, letter_id)
    record = _record(letter, value)
    try:
        async with connection.transaction():
            await handle(connection, [batch_of(record)])
    except TRANSIENT:
        raise
    except Exception as error:
        reason = next(iter(error.reasons.values())) if isinstance(error, PoisonError) else str(error)
        await _keep(connection, letter_id, type(error).__name__, dead_letter.printable(reason))
        return Outcome(Status.PENDING, reason)
    await _close(connection, letter_id, Status.RESOLVED, by, None if value is None else "edited")
    return Outcome(Status.RESOLVED, None)


async def discard(connection: asyncpg.Connection, letter_id: int, *, by: str, note: str) -> None:
    """Give a dead letter up, for a reason; its bytes stay. Raises UnknownDeadLetter and NotPending."""
    await _lock(connection, letter_id)
    await _close(connection, letter_id, Status.DISCARDED, by, note)


async def retry_due(pool: asyncpg.Pool, group: str, handle: Handler, *, most: int = 100) -> int:
    """Try the group's dead letters again whose time has come; how many were resolved.

    Waiting doubles with each attempt, from one minute to six hours. Letters whose bytes are wrong are left alone.
    """
    due = await pool.fetch(
        """
        SELECT id FROM dead_letter
         WHERE group_name = $1 AND status = 'pending' AND attempts < $2 AND error_class <> ALL ($3)
           AND updated_at + least(interval '1 minute' * 2 ^ (attempts - 1), interval '6 hours') <= now()
         ORDER BY id LIMIT $4
        """,
        group,
        MOST_ATTEMPTS,
        FINAL_CLASSES,
        most,
    )
    resolved = 0
    for row in due:
        with suppress(NotPending):  # Another replica, or a person, was faster.
            async with pool.acquire() as acquired, acquired.transaction():
                outcome = await retry(cast(asyncpg.Connection, acquired), handle, row["id"], by="automatic retry")
            resolved += outcome.status is Status.RESOLVED
    return resolved


async def _lock(connection: asyncpg.Connection, letter_id: int) -> asyncpg.Record:
    letter = await connection.fetchrow("SELECT * FROM dead_letter WHERE id = $1 FOR UPDATE", letter_id)
    if letter is None:
        raise UnknownDeadLetter(f"there is no dead letter {letter_id}")
    if letter["status"] != Status.PENDING:
        raise NotPending(f"dead letter {letter_id} is {letter['status']}")
    return letter


async def _keep(connection: asyncpg.Connection, letter_id: int, error_class: str, error: str) -> None:
    await connection.execute(
        """
        UPDATE dead_letter SET attempts = attempts + 1, error_class = $2, error = $3, updated_at = now() WHERE id = $1
        """,
        letter_id,
        error_class,
        error,
    )


async def _close(connection: asyncpg.Connection, letter_id: int, status: Status, by: str, note: str | None) -> None:
    await connection.execute(
        """
        UPDATE dead_letter SET status = $2, attempts = attempts + 1, resolved_by = $3, note = $4, updated_at = now()
         WHERE id = $1
        """,
        letter_id,
        status,
        by,
        note,
    )


def _record(letter: asyncpg.Record, value: bytes | None) -> ConsumerRecord:
    headers = letter["headers"] if isinstance(letter["headers"], list) else json.loads(letter["headers"])
    return record_of(
        letter["topic"],
        letter["partition"],
        letter["record_offset"],
        letter["record_timestamp"],
        letter["key"],
        letter["value"] if value is None else value,
        [(name, b64decode(text)) for name, text in headers],
    )


def record_of(
    topic: str,
    partition: int,
    offset: int,
    sent_at: datetime,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
) -> ConsumerRecord:
    """The record that a dead letter keeps, as it came from the broker."""
    sizes = len(key or b""), len(value or b"")
    milliseconds = int(sent_at.timestamp() * 1000)
    return ConsumerRecord(topic, partition, offset, milliseconds, 0, key, value, None, *sizes, tuple(headers))


def batch_of(record: ConsumerRecord) -> PartitionBatch:
    """A batch of the one record. Raises NotAnEvent when its bytes are still wrong."""
    decoded = decode(topic_named(record.topic), [record])
    if decoded.poison:
        raise NotAnEvent(decoded.poison[0].error)
    return PartitionBatch(record.topic, record.partition, 0, decoded.received, [], record.offset + 1, None)
