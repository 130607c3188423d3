"""What becomes of dead letters: tried again by their own group's handler, by hand or by themselves, or discarded."""

import json
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import cast

import asyncpg
from aiokafka import ConsumerRecord

from libs.events import dead_letter
from libs.events.decoding import NotAnEvent, decode
from libs.events.postgres import TRANSIENT, Handler
from libs.events.sink import PartitionBatch, PoisonError, RecordId
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


class Undecodable(Exception):
    """A value is no event of its topic, so there is nothing to apply."""

    def __init__(self, error_class: str, error: str) -> None:
        super().__init__(error)
        self.error_class = error_class


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record could not be applied."""

    error_class: str
    error: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a retry ended."""

    status: Status
    error: str | None


async def attempt(
    record: ConsumerRecord,
    value: bytes | None,
    apply: Callable[[PartitionBatch], Awaitable[None]],
    is_transient: Callable[[BaseException], bool],
) -> Failure | None:
    """Apply one record, with another value if one is given; why that failed, None if it did not.

    Raises Undecodable when the other value is no event of the topic, and what says that the infrastructure failed.
    """
    try:
        await apply(batch_of(record if value is None else replace(record, value=value)))
    except Undecodable as error:
        if value is not None:
            raise
        return Failure(error.error_class, dead_letter.printable(str(error)))
    except Exception as error:
        if is_transient(error):
            raise
        reason = next(iter(error.reasons.values())) if isinstance(error, PoisonError) else str(error)
        return Failure(type(error.__cause__ or error).__name__, dead_letter.printable(reason))
    return None


async def retry(
    connection: asyncpg.Connection, handle: Handler, letter_id: int, *, by: str, value: bytes | None = None
) -> Outcome:
    """Apply one dead letter, with another value if one is given; in the caller's transaction.

    The group's handler is called, never the shared topic, so no other group sees the record again. Raises
    UnknownDeadLetter, NotPending, Undecodable when the other value is no event, and what says that Postgres is away.
    """
    letter = await _lock(connection, letter_id)

    async def apply(batch: PartitionBatch) -> None:
        async with connection.transaction():
            await handle(connection, [batch])

    failure = await attempt(_record(letter), value, apply, lambda error: isinstance(error, TRANSIENT))
    if failure:
        await _keep(connection, letter_id, failure)
        return Outcome(Status.PENDING, failure.error)
    await _close(connection, letter_id, Status.RESOLVED, by, None if value is None else "edited", value)
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


async def reopen(connection: asyncpg.Connection, group: str, batches: Sequence[PartitionBatch]) -> None:
    """Have resolved letters wait again, because the poison of these batches is their records."""
    dead = [(batch, poison) for batch in batches for poison in batch.poison]
    await connection.execute(
        """
        UPDATE dead_letter AS letter
           SET status = 'pending', error_class = dead.error_class, error = dead.error, resolved_by = NULL, note = NULL,
               updated_at = now()
          FROM unnest($2::text[], $3::int[], $4::bigint[], $5::text[], $6::text[])
               AS dead(topic, partition, record_offset, error_class, error)
         WHERE group_name = $1 AND status = 'resolved' AND letter.topic = dead.topic
           AND letter.partition = dead.partition AND letter.record_offset = dead.record_offset
        """,
        group,
        [batch.topic for batch, _ in dead],
        [batch.partition for batch, _ in dead],
        [poison.offset for _, poison in dead],
        [poison.error_class for _, poison in dead],
        [dead_letter.printable(poison.error) for _, poison in dead],
    )


async def resolve(connection: asyncpg.Connection, group: str, places: Sequence[RecordId], *, by: str) -> None:
    """Close pending letters whose records have been applied."""
    await connection.execute(
        """
        UPDATE dead_letter AS letter SET status = 'resolved', resolved_by = $5, updated_at = now()
          FROM unnest($2::text[], $3::int[], $4::bigint[]) AS place(topic, partition, record_offset)
         WHERE group_name = $1 AND status = 'pending' AND letter.topic = place.topic
           AND letter.partition = place.partition AND letter.record_offset = place.record_offset
        """,
        group,
        [place.topic for place in places],
        [place.partition for place in places],
        [place.offset for place in places],
        by,
    )


async def _lock(connection: asyncpg.Connection, letter_id: int) -> asyncpg.Record:
    letter = await connection.fetchrow("SELECT * FROM dead_letter WHERE id = $1 FOR UPDATE", letter_id)
    if letter is None:
        raise UnknownDeadLetter(f"there is no dead letter {letter_id}")
    if letter["status"] != Status.PENDING:
        raise NotPending(f"dead letter {letter_id} is {letter['status']}")
    return letter


async def _keep(connection: asyncpg.Connection, letter_id: int, failure: Failure) -> None:
    await connection.execute(
        """
        UPDATE dead_letter SET attempts = attempts + 1, error_class = $2, error = $3, updated_at = now() WHERE id = $1
        """,
        letter_id,
        failure.error_class,
        failure.error,
    )


async def _close(
    connection: asyncpg.Connection,
    letter_id: int,
    status: Status,
    by: str,
    note: str | None,
    edited_value: bytes | None = None,
) -> None:
    await connection.execute(
        """
        UPDATE dead_letter
           SET status = $2, attempts = attempts + 1, resolved_by = $3, note = $4, edited_value = $5, updated_at = now()
         WHERE id = $1
        """,
        letter_id,
        status,
        by,
        note,
        edited_value,
    )


def _record(letter: asyncpg.Record) -> ConsumerRecord:
    headers = letter["headers"] if isinstance(letter["headers"], list) else json.loads(letter["headers"])
    return record_of(
        letter["topic"],
        letter["partition"],
        letter["record_offset"],
        letter["record_timestamp"],
        letter["key"],
        letter["value"],
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
    """A batch of the one record. Raises Undecodable when it is no event of its topic."""
    decoded = decode(topic_named(record.topic), [record])
    if decoded.poison:
        raise Undecodable(decoded.poison[0].error_class, decoded.poison[0].error)
    if decoded.skipped:
        raise Undecodable("UnknownEventType", f"{record.topic} has no events of this type")
    return PartitionBatch(record.topic, record.partition, 0, decoded.received, [], record.offset + 1, None)
