"""The `archive` process: every event of every topic into the lake, exactly once."""

import asyncio
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pyarrow as pa
from aiokafka import TopicPartition
from prometheus_client import Counter

from libs.chassis.database import Connection, Pool, acquired, open_pool
from libs.chassis.problems import Problem
from libs.events import dead_letter, dead_letter_retry
from libs.events.consumer import Runner
from libs.events.failpoints import failpoint
from libs.events.offsets import PostgresSink, positions
from libs.events.settings import MAX_MESSAGE_BYTES
from libs.events.sink import Claim, Fenced, PartitionBatch
from libs.events.topics import TOPICS
from services.pipeline import lake
from services.pipeline.event_table import Row
from services.pipeline.lake import Advance, LakeTable, StaleWriter
from services.pipeline.settings import Settings

GROUP = "pipeline-archive"

ROWS = Counter("stockflow_archive_rows_total", "Rows appended to the lake.", ["topic"])
COMMITS = Counter("stockflow_archive_commits_total", "Commits to the lake.", ["topic"])


class LakeSink:
    """Writes batches into the lake; the table commit carries the next offsets, so they cannot come apart.

    Dead letters go to Postgres before, where a repeat changes nothing. `consumer_offset` gets the offsets after, for
    those who watch; where to go on is decided by the lake alone.
    """

    group = GROUP

    def __init__(
        self, pool: Pool, lake_url: str, topic_prefix: str, *, max_message_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        """Dead letters are mirrored to Kafka, which takes messages up to `max_message_bytes`."""
        self._pool = pool
        self._max_message_bytes = max_message_bytes
        self._offsets = PostgresSink(pool, GROUP, _nothing_more, owner=socket.gethostname())
        self._tables = {topic_prefix + table.topic.name: table for table in lake.tables(lake_url)}
        self._retried = RetriedLetters(lake_url, topic_prefix)
        self._claimed: dict[tuple[TopicPartition, int], int | None] = {}
        self._written: dict[tuple[TopicPartition, int], int] = {}

    async def claim(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Claim]:
        """As Sink.claim: the next offsets are those of the last table commits."""
        claims = await self._offsets.claim(partitions)
        async with acquired(self._pool) as connection:
            watched = {
                TopicPartition(row["topic"], row["partition"]): row["next_offset"]
                for row in await positions(connection, GROUP)
            }
        for topic in sorted({partition.topic for partition in partitions}):
            ours = [partition for partition in partitions if partition.topic == topic]
            versions = await asyncio.to_thread(self._tables[topic].versions, [_writer(item) for item in ours])
            for partition in ours:
                next_offset = self._claimed[partition, claims[partition].epoch] = versions[_writer(partition)]
                # The anchor belongs to the offset that Postgres knows; a crash may have left that one behind.
                anchor = claims[partition].anchor if watched[partition] == next_offset else None
                claims[partition] = Claim(next_offset, claims[partition].epoch, anchor)
        await self._show([place for place in claims if claims[place].next_offset != watched[place]], claims)
        return claims

    async def _show(self, places: Sequence[TopicPartition], claims: Mapping[TopicPartition, Claim]) -> None:
        """Tell those who watch how far the lake is where a crash after a table commit has kept it from them."""
        await self._offsets.write(
            [
                PartitionBatch(place.topic, place.partition, claim.epoch, [], [], claim.next_offset, None)
                for place in places
                if (claim := claims[place]).next_offset is not None
            ]
        )

    async def write(self, batches: Sequence[PartitionBatch]) -> None:
        """As Sink.write, in one table commit per topic. A topic that was committed before an error is not again."""
        if any(batch.poison for batch in batches):
            async with acquired(self._pool) as connection, connection.transaction():
                await dead_letter.bury(connection, GROUP, batches, max_message_bytes=self._max_message_bytes)
        by_topic: dict[str, list[PartitionBatch]] = defaultdict(list)
        for batch in batches:
            if self._written.get((_partition(batch), batch.epoch)) != batch.next_offset:
                by_topic[batch.topic].append(batch)
        for topic, unwritten in by_topic.items():
            await self._append(self._tables[topic], unwritten)
            failpoint("archive.appended")
        await self._offsets.write([replace(batch, poison=[]) for batch in batches])

    async def note_error(self, batches: Sequence[PartitionBatch], error: str) -> None:
        """As Sink.note_error."""
        await self._offsets.note_error(batches, error)

    async def retry_dead_letters(self) -> None:
        """As Sink.retry_dead_letters: appended again, without moving any offset."""
        await dead_letter_retry.retry_due(self._pool, GROUP, self._retried.handle)

    def is_transient(self, error: BaseException) -> bool:
        """As Sink.is_transient."""
        return lake.is_transient(error) or isinstance(error, Problem) or self._offsets.is_transient(error)

    async def _append(self, table: LakeTable, batches: Sequence[PartitionBatch]) -> None:
        advances = {
            _writer(_partition(batch)): Advance(self._claimed[_partition(batch), batch.epoch], batch.next_offset)
            for batch in batches
        }
        rows = await asyncio.to_thread(_rows, table, batches)
        try:
            await asyncio.to_thread(table.append, rows, advances)
        except StaleWriter as stale:
            raise Fenced([item for item in map(_partition, batches) if _writer(item) in stale.writers]) from stale
        for batch in batches:
            lease = _partition(batch), batch.epoch
            self._claimed[lease] = self._written[lease] = batch.next_offset
        ROWS.labels(table.topic.name).inc(rows.num_rows)
        COMMITS.labels(table.topic.name).inc()


class RetriedLetters:
    """The handler of dead letters that are retried: appends their events without moving any offset."""

    def __init__(self, lake_url: str, topic_prefix: str) -> None:
        self._tables = {topic_prefix + table.topic.name: table for table in lake.tables(lake_url)}

    async def handle(self, _connection: Connection, batches: Sequence[PartitionBatch]) -> None:
        """Append the events of batches; the lake's reader drops those that are there already."""
        for batch in batches:
            table = self._tables[batch.topic]
            rows = await asyncio.to_thread(_rows, table, [batch])
            await asyncio.to_thread(table.append, rows, {})


@asynccontextmanager
async def open_runner(settings: Settings) -> AsyncIterator[Runner]:
    """The runner over all topics, connected to Postgres within the block."""
    pool = await open_pool(
        settings.database_url.get_secret_value(), size=2, application_name=GROUP, statement_timeout_ms=60_000
    )
    kafka = settings.kafka
    async with pool:
        yield Runner(
            LakeSink(pool, settings.lake_url, kafka.topic_prefix, max_message_bytes=kafka.max_message_bytes),
            topics=TOPICS,
            kafka=kafka,
            flush_max_records=settings.archive_flush_records,
            flush_max_bytes=settings.archive_flush_bytes,
            flush_max_age_seconds=settings.archive_flush_seconds,
        )


async def _nothing_more(_connection: Connection, _batches: Sequence[PartitionBatch]) -> None:
    """The results are in the lake already."""


def _rows(table: LakeTable, batches: Sequence[PartitionBatch]) -> pa.Table:
    return table.event_table.rows(
        [
            Row(batch.topic, batch.partition, received.offset, received.event)
            for batch in batches
            for received in batch.received
        ]
    )


def _partition(batch: PartitionBatch) -> TopicPartition:
    return TopicPartition(batch.topic, batch.partition)


def _writer(partition: TopicPartition) -> str:
    """The application id under which a partition's next offset stands in the commit log."""
    return f"archive:{partition.topic}:{partition.partition}"
