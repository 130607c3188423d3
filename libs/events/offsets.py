"""A sink in Postgres: results, dead letters and offsets in one transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import cast

import asyncpg
from aiokafka import TopicPartition

from libs.events import dead_letter, dead_letter_retry
from libs.events.postgres import TRANSIENT, Handler
from libs.events.settings import MAX_MESSAGE_BYTES
from libs.events.sink import Claim, Fenced, PartitionBatch


class PostgresSink:
    """Runs a handler in one transaction per write, which also advances `consumer_offset` by compare-and-set.

    That statement is checkpoint, idempotence and fence at once: a worker whose epoch is no longer the stored one
    writes nothing.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        group: str,
        handle: Handler,
        *,
        owner: str = "",
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """Dead letters are mirrored to Kafka, which takes messages up to `max_message_bytes`."""
        self.group = group
        self._pool = pool
        self._handle = handle
        self._owner = owner
        self._max_message_bytes = max_message_bytes

    async def claim(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Claim]:
        """Raise the epoch of these partitions; waits for a write of the previous owner that is under way."""
        ordered = sorted(partitions)
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(
                """
                INSERT INTO consumer_offset AS stored (group_name, topic, partition, epoch, owner, updated_at)
                SELECT $1, topic, partition, 1, $4, now()
                  FROM unnest($2::text[], $3::int[]) AS claimed(topic, partition)
                ON CONFLICT (group_name, topic, partition)
                DO UPDATE SET epoch = stored.epoch + 1, owner = excluded.owner, updated_at = now()
                RETURNING topic, partition, next_offset, epoch, anchor_event_id
                """,
                self.group,
                [item.topic for item in ordered],
                [item.partition for item in ordered],
                self._owner,
            )
        return {
            TopicPartition(row["topic"], row["partition"]): Claim(
                row["next_offset"], row["epoch"], row["anchor_event_id"]
            )
            for row in rows
        }

    async def write(self, batches: Sequence[PartitionBatch]) -> None:
        """As Sink.write."""
        async with self._pool.acquire() as acquired, acquired.transaction():
            connection = cast(asyncpg.Connection, acquired)
            await _advance(connection, self.group, batches)
            await dead_letter.bury(connection, self.group, batches, max_message_bytes=self._max_message_bytes)
            await self._handle(connection, batches)

    async def note_error(self, batches: Sequence[PartitionBatch], error: str) -> None:
        """As Sink.note_error."""
        async with self._pool.acquire() as connection:
            await connection.execute(
                """
                UPDATE consumer_offset AS stored SET last_error = $5, last_error_at = now()
                  FROM unnest($2::text[], $3::int[], $4::bigint[]) AS put_off(topic, partition, epoch)
                 WHERE stored.group_name = $1 AND stored.topic = put_off.topic
                   AND stored.partition = put_off.partition AND stored.epoch = put_off.epoch
                """,
                self.group,
                [batch.topic for batch in batches],
                [batch.partition for batch in batches],
                [batch.epoch for batch in batches],
                dead_letter.printable(error)[:1000],
            )

    async def retry_dead_letters(self) -> None:
        """As Sink.retry_dead_letters."""
        await dead_letter_retry.retry_due(self._pool, self.group, self._handle)

    def is_transient(self, error: BaseException) -> bool:
        """As Sink.is_transient."""
        return isinstance(error, TRANSIENT)


async def _advance(connection: asyncpg.Connection, group: str, batches: Sequence[PartitionBatch]) -> None:
    """Move the offsets forward where the epoch is still ours. Raises Fenced for all others."""
    ordered = sorted(batches, key=lambda batch: (batch.topic, batch.partition))
    rows = await connection.fetch(
        """
        UPDATE consumer_offset AS stored
           SET next_offset = written.next_offset, anchor_event_id = written.anchor, updated_at = now(),
               max_event_time = greatest(stored.max_event_time, written.max_event_time),
               dead_letters_in_a_row = written.dead_in_a_row,
               last_error = NULL, last_error_at = NULL
          FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::text[], $7::timestamptz[],
                      $8::int[])
               AS written(topic, partition, epoch, next_offset, anchor, max_event_time, dead_in_a_row)
         WHERE stored.group_name = $1 AND stored.topic = written.topic AND stored.partition = written.partition
           AND stored.epoch = written.epoch
        RETURNING stored.topic, stored.partition
        """,
        group,
        [batch.topic for batch in ordered],
        [batch.partition for batch in ordered],
        [batch.epoch for batch in ordered],
        [batch.next_offset for batch in ordered],
        [batch.anchor for batch in ordered],
        [latest_event_time(batch) for batch in ordered],
        [batch.dead_in_a_row for batch in ordered],
    )
    advanced = {TopicPartition(row["topic"], row["partition"]) for row in rows}
    stale = {TopicPartition(batch.topic, batch.partition) for batch in batches} - advanced
    if stale:
        raise Fenced(stale)


def latest_event_time(batch: PartitionBatch) -> datetime | None:
    """The latest event time of a batch, None when it holds poison only."""
    return max([item.event.timestamp for item in batch.received], default=None)


async def positions(connection: asyncpg.Connection, group: str) -> list[asyncpg.Record]:
    """Where a group stands, one row per topic and partition."""
    return await connection.fetch(
        """
        SELECT group_name, topic, partition, next_offset, epoch, owner, updated_at, max_event_time, last_error,
               last_error_at, dead_letters_in_a_row
          FROM consumer_offset WHERE group_name = $1 ORDER BY topic, partition
        """,
        group,
    )
