"""The runner of every consumer: polls, decodes, and gives the sink whole batches until each record has counted once.

The offset lives with the sink's results, so Kafka's own commits are only for lag tools. What aiokafka does
behind our back shapes this file: partitions are polled only after they were claimed and seeked, a worker without
partitions keeps polling, and nothing here is ever committed without explicit offsets.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, NoOffsetForPartitionError
from prometheus_client import Counter, Gauge, Histogram

from libs.events import client, decoding, lag
from libs.events.assignor import ByName
from libs.events.decoding import Decoded, Poison, Received
from libs.events.envelope import Event
from libs.events.failpoints import failpoint
from libs.events.settings import KafkaSettings
from libs.events.sink import Claim, Fenced, PartitionBatch, PoisonError, RecordId, Sink
from libs.events.topics import Topic

log = structlog.get_logger()

_LABELS = ["group", "topic"]
APPLIED = Counter("stockflow_consumer_applied_total", "Records whose result is written.", _LABELS)
SKIPPED = Counter("stockflow_consumer_skipped_total", "Events of a type that this version does not know.", _LABELS)
DEAD_LETTERS = Counter("stockflow_consumer_dead_letters_total", "Records that could not be applied.", _LABELS)
FLOODS = Counter("stockflow_consumer_dead_letter_floods_total", "Times that 100 died in a row.", _LABELS)
TRANSIENT_ERRORS = Counter("stockflow_consumer_transient_errors_total", "Writes tried again.", ["group"])
FENCED = Counter("stockflow_consumer_fenced_total", "Partitions lost to a newer owner while writing.", ["group"])
REBALANCES = Counter("stockflow_consumer_rebalances_total", "Assignments received.", ["group"])
GAPS = Counter("stockflow_consumer_offset_gaps_total", "Claims whose records the broker had deleted.", ["group"])
COMMIT_ERRORS = Counter("stockflow_consumer_commit_errors_total", "Kafka commits refused; harmless.", ["group"])
LAG_MESSAGES = Gauge("stockflow_consumer_lag_messages", "Records not applied yet.", ["group", "topic", "partition"])
LAG_SECONDS = Gauge(
    "stockflow_consumer_lag_seconds",
    "Age of the record that was read last, 0 where none is left to apply.",
    ["group", "topic", "partition"],
)
LATENCY = Histogram(
    "stockflow_consumer_latency_seconds",
    "From the event's recording to its result being written.",
    ["group"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
WRITE_SECONDS = Histogram("stockflow_consumer_write_seconds", "Time of one write.", ["group"])
BATCH_RECORDS = Histogram(
    "stockflow_consumer_batch_records",
    "Records in one write.",
    ["group"],
    buckets=(1, 10, 100, 1000, 5000, 20000, 100000),
)

MAX_POLL_RECORDS = 500
"""Decoded in one go; the write under way waits that long for each answer of the database."""
FETCH_BYTES = 256 * 1024
"""Read ahead of each partition, packed, in memory. A larger batch comes whole all the same (KIP-74)."""
ANSWER_MS = 5
"""How long a broker that does not wait may take to answer a fetch."""
COMMIT_SECONDS = 5.0
STOP_SECONDS = 10.0
DRAIN_SECONDS = 20.0
REBALANCE_TIMEOUT_MS = 60_000
RECLAIM_SECONDS = 5.0
NOTE_SECONDS = 2.0
RETRY_DEAD_LETTERS_SECONDS = 30.0
TRIES_OF_ONE_RECORD = 3
STALLED_SECONDS = 120.0
MAX_DEAD_LETTERS_IN_A_ROW = 100

_NO_PARTITION = TopicPartition("-", 0)
"""Polled by a worker that has nothing to read, because a member that does not poll cannot rejoin."""


Decode = Callable[[Topic, Sequence[ConsumerRecord]], Decoded]
"""What records of one topic turn out to be, in order."""


class OffsetGap(Exception):
    """The broker has deleted records that this group had not applied."""


class TopicRecreated(Exception):
    """A topic is not the one that this group has been reading."""


class DeadLetterFlood(Exception):
    """So many records in a row became dead letters that the deployment may be at fault, not the data."""


@dataclass(slots=True)
class _Lease:
    """A partition that this worker has claimed, and what was polled from it but not written yet."""

    topic: Topic
    epoch: int
    next_offset: int
    """Behind what was polled."""
    taken_offset: int
    """Behind what was handed to the sink."""
    written_offset: int
    """Behind what the sink has written."""
    received: list[Received] = field(default_factory=list)
    poison: list[Poison] = field(default_factory=list)
    waiting_bytes: int = 0
    """Size of the values that were polled and not handed to the sink yet."""
    last: ConsumerRecord | None = None
    dead_in_a_row: int = 0
    failures: int = 0
    """Writes in a row that the infrastructure failed; until one succeeds, no more is read."""
    put_off: list[PartitionBatch] = field(default_factory=list)
    """What those writes were about, in order; it is tried again as it is."""
    put_off_since: float = 0.0
    put_off_until: float = 0.0

    @property
    def waiting(self) -> int:
        """Offsets that were polled and not handed to the sink yet."""
        return self.next_offset - self.taken_offset

    def add(self, group: str, records: Sequence[ConsumerRecord], decode: Decode) -> None:
        """Decode records and keep them until the next write. Those before the claimed offset are not ours to read."""
        records = [record for record in records if record.offset >= self.next_offset]
        if not records:
            return
        decoded = decode(self.topic, records)
        self.received += decoded.received
        self.poison += decoded.poison
        self.last = records[-1]
        self.next_offset = self.last.offset + 1
        self.waiting_bytes += sum([len(record.value or b"") for record in records])
        SKIPPED.labels(group, self.topic.name).inc(decoded.skipped)

    def take(self, partition: TopicPartition) -> PartitionBatch:
        """Everything that waits, as a batch."""
        batch = PartitionBatch(
            topic=partition.topic,
            partition=partition.partition,
            epoch=self.epoch,
            received=self.received,
            poison=self.poison,
            next_offset=self.next_offset,
            anchor=lag.event_id(self.last) if self.last else None,
        )
        self.received, self.poison, self.waiting_bytes = [], [], 0
        self.taken_offset = self.next_offset
        return batch

    def fail(self, batch: PartitionBatch) -> None:
        """Keep a batch that the infrastructure has failed, for a while that is longer each time."""
        now = time.monotonic()
        if not self.failures:
            self.put_off_since = now
        self.failures += 1
        self.put_off_until = now + _pause_seconds(self.failures)
        self.put_off.append(batch)

    def take_put_off(self) -> Sequence[PartitionBatch]:
        """What is to be tried again."""
        batches, self.put_off = self.put_off, []
        return batches


class Runner(ConsumerRebalanceListener):  # type: ignore[misc]
    """Feeds one consumer group's sink. `run` ends when asked to, or raises when only a restart can help."""

    def __init__(
        self,
        sink: Sink,
        *,
        topics: Sequence[Topic],
        kafka: KafkaSettings,
        flush_max_records: int = 20_000,
        flush_max_bytes: int = 64 * 2**20,
        flush_max_age_seconds: float = 0.2,
        kafka_group: str | None = None,
        decode: Decode = decoding.decode,
    ) -> None:
        """A write begins as soon as one of the three limits is reached, `flush_max_bytes` counting values.

        While it is under way, as much again is read ahead. `kafka_group` is the group's name for the broker, where it
        is not the sink's. `decode` may put other records in the place of some, or leave some out.
        """
        self._sink = sink
        self._kafka = kafka
        self._kafka_group = kafka.topic(kafka_group or sink.group)
        self._topics = {kafka.topic(topic.name): topic for topic in topics}
        self._flush_max_records = flush_max_records
        self._flush_max_bytes = flush_max_bytes
        self._flush_max_age_seconds = flush_max_age_seconds
        self._decode = decode
        self._consumer: AIOKafkaConsumer = None
        self._leases: dict[TopicPartition, _Lease] = {}
        self._generation = 0
        self._is_stopping = False
        self._claiming: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._waiting_since: float | None = None
        self._writing_since: float | None = None
        self._to_commit: dict[TopicPartition, int] = {}
        self._lost: set[TopicPartition] = set()
        self._lost_at = 0.0
        self._retried_at = time.monotonic()
        self._polled_at = self._progressed_at = self._committed_at = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set, then finish the batch in hand."""
        self._consumer = AIOKafkaConsumer(
            **self._kafka.connection(),
            group_id=self._kafka_group,
            group_instance_id=self._kafka.group_instance_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=self._kafka.session_timeout_ms,
            heartbeat_interval_ms=self._kafka.session_timeout_ms // 10,
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            # Joining takes as long as the slowest member; a join that is given up leaves a member that nobody is.
            request_timeout_ms=REBALANCE_TIMEOUT_MS + 5_000,
            max_poll_interval_ms=300_000,
            max_partition_fetch_bytes=FETCH_BYTES,
            partition_assignment_strategy=(ByName(self._kafka.group_instance_id),),
        )
        try:
            await client.start(self._consumer)
            # Only now, or `start` would wait for the group, which may take as long as its slowest member.
            self._consumer.subscribe(list(self._topics), listener=self)
            await self._consume(stop)
            failpoint("consumer.draining")
            await self._write_rest(DRAIN_SECONDS)
            _raise_failure(self._writing)
            await self._commit_to_kafka()
        finally:
            self._is_stopping = True
            await _cancel(self._claiming, self._writing)
            with suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(self._consumer.stop(), STOP_SECONDS)

    def health(self) -> str | None:
        """Why this worker should be restarted, None while it works."""
        now = time.monotonic()
        if now - self._polled_at > STALLED_SECONDS:
            return f"has not polled for {now - self._polled_at:.0f} s"
        put_off = [lease.put_off_since for lease in self._leases.values() if lease.failures]
        began_at = min(put_off, default=None) or self._writing_since or self._waiting_since
        if began_at and now - max(self._progressed_at, began_at) > STALLED_SECONDS:
            return f"has written nothing for {now - self._progressed_at:.0f} s"
        return None

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Write what is in hand, within half of the time that the group waits for us. Later writes are fenced."""
        self._generation += 1
        await _cancel(self._claiming)
        self._claiming = None
        if self._leases:
            failpoint("consumer.revoked")
        await self._write_rest(REBALANCE_TIMEOUT_MS / 2000)
        self._leases.clear()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Claim in the background: the group must not wait for our database."""
        REBALANCES.labels(self._sink.group).inc()
        self._generation += 1
        self._leases.clear()
        self._lost.clear()
        if not self._is_stopping:  # A rebalance may end while the consumer is being stopped.
            self._claiming = asyncio.create_task(self._claim(self._generation, sorted(assigned)))

    async def _consume(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            _raise_failure(self._claiming)
            polled = await self._poll()
            await asyncio.sleep(0)  # getmany does not yield while records are buffered, and the write must go on.
            self._polled_at = time.monotonic()
            self._claim_lost()
            for partition, records in polled.items():
                if records and (lease := self._leases.get(partition)):
                    lease.add(self._sink.group, records, self._decode)
                    self._waiting_since = self._waiting_since or self._polled_at
            self._write_if_due()
            if time.monotonic() - self._committed_at > COMMIT_SECONDS:
                await self._commit_to_kafka()

    async def _poll(self) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Records of claimed partitions; nothing when a rebalance overtook the call, or while a whole write waits."""
        if self._is_full() and self._writing:
            await asyncio.wait({self._writing}, timeout=0.2)
        readable = self._readable() or (_NO_PARTITION,)
        if self._kafka.fetch_pause_ms:
            await self._rest(self._kafka.fetch_pause_ms / 1000)
        try:
            return await self._consumer.getmany(  # type: ignore[no-any-return]
                *readable, timeout_ms=self._poll_timeout_ms(), max_records=MAX_POLL_RECORDS
            )
        except NoOffsetForPartitionError:
            # A partition came back to us while we polled it under its old lease; the claim under way will seek it.
            return {}

    async def _rest(self, seconds: float) -> None:
        """Fetch nothing for a moment."""
        resting = self._consumer.assignment() - self._consumer.paused()
        self._consumer.pause(*resting)
        await asyncio.sleep(seconds)
        self._consumer.resume(*(resting & self._consumer.assignment()))

    def _readable(self) -> Sequence[TopicPartition]:
        """The claimed partitions that are not put off, none while enough of them is waiting to be written."""
        if self._is_full():
            return ()
        return tuple(partition for partition, lease in self._leases.items() if not lease.failures)

    def _is_full(self) -> bool:
        """Whether enough waits for a whole write, apart from what is put off."""
        leases = [lease for lease in self._leases.values() if not lease.failures]
        waiting = sum(lease.waiting for lease in leases)
        waiting_bytes = sum(lease.waiting_bytes for lease in leases)
        return waiting >= self._flush_max_records or waiting_bytes >= self._flush_max_bytes

    def _poll_timeout_ms(self) -> int:
        if self._kafka.fetch_pause_ms:
            return ANSWER_MS
        if self._waiting_since is None:
            return 200
        if self._is_full():
            return 0
        due_in = self._waiting_since + self._flush_max_age_seconds - time.monotonic()
        return max(5, min(200, int(due_in * 1000)))

    def _write_if_due(self) -> None:
        """Start a write when enough is waiting, or long enough, and none is under way."""
        if self._writing and not self._writing.done():
            return
        _raise_failure(self._writing)
        if time.monotonic() - self._retried_at > RETRY_DEAD_LETTERS_SECONDS:
            self._retried_at = time.monotonic()
            self._writing = asyncio.create_task(self._retry_dead_letters())
            return
        now = time.monotonic()
        is_old = self._waiting_since is not None and now - self._waiting_since >= self._flush_max_age_seconds
        is_due = any(lease.put_off and lease.put_off_until <= now for lease in self._leases.values())
        if is_old or is_due or self._is_full():
            self._writing = asyncio.create_task(self._write_waiting(now))

    async def _retry_dead_letters(self) -> None:
        try:
            await self._sink.retry_dead_letters()
        except Exception as error:
            if not self._sink.is_transient(error):
                raise
            log.warning("consumer.retry_postponed", group=self._sink.group, error=repr(error))

    async def _write_rest(self, seconds: float) -> None:
        """Finish the write under way and write what is left, in bounded time."""
        deadline = time.monotonic() + seconds
        if self._writing:
            await asyncio.wait({self._writing}, timeout=seconds)
        is_unwritten = any(lease.waiting or lease.put_off for lease in self._leases.values())
        if is_unwritten and (self._writing is None or self._writing.done()):
            _raise_failure(self._writing)
            self._writing = asyncio.create_task(self._write_waiting(math.inf))
            await asyncio.wait({self._writing}, timeout=max(0.0, deadline - time.monotonic()))

    async def _write_waiting(self, now: float) -> None:
        """Write what waits: first each partition that was put off until `now` by itself, then the others together."""
        self._writing_since, self._waiting_since = time.monotonic(), None
        for lease in list(self._leases.values()):
            if lease.put_off_until <= now:
                for batch in lease.take_put_off():
                    await self._write([batch])
        ready = [(place, lease) for place, lease in self._leases.items() if lease.waiting and not lease.failures]
        await self._write([lease.take(place) for place, lease in ready])
        self._writing_since = None

    async def _write(self, batches: Sequence[PartitionBatch]) -> None:
        """Write until every record counts, is a dead letter, is put off, or belongs to somebody else."""
        tries = 0
        while batches := [self._counted(batch) for batch in self._writable(batches)]:
            tries += 1
            try:
                with WRITE_SECONDS.labels(self._sink.group).time():
                    await self._sink.write(batches)
            except Fenced as fenced:
                self._lose(batches, fenced.partitions)
            except PoisonError as error:
                batches = _condemned(batches, error)
            except Exception as error:
                if self._sink.is_transient(error):
                    await self._note(batches, error)
                    self._put_off(batches, error)
                    return
                if sum(batch.size for batch in batches) > 1:
                    log.warning("consumer.bisecting", group=self._sink.group, error=repr(error))
                    for part in _parts(batches):
                        await self._write([part])
                    return
                if tries < TRIES_OF_ONE_RECORD:
                    await asyncio.sleep(0.1 * tries)
                else:
                    batches = _condemned(batches, error)
            else:
                failpoint("consumer.written")
                self._written(batches)
                return

    def _lease_of(self, batch: PartitionBatch) -> _Lease | None:
        """The lease that a batch was read under, None once it is over."""
        lease = self._leases.get(TopicPartition(batch.topic, batch.partition))
        return lease if lease and lease.epoch == batch.epoch else None

    def _writable(self, batches: Iterable[PartitionBatch]) -> list[PartitionBatch]:
        """The batches of partitions that are ours. What follows a part that was put off is put off with it."""
        writable: list[PartitionBatch] = []
        for batch in batches:
            if lease := self._lease_of(batch):
                (lease.put_off if lease.put_off else writable).append(batch)
        return writable

    def _put_off(self, batches: Sequence[PartitionBatch], error: Exception) -> None:
        """Let these partitions wait, each for a time of its own, while the others go on."""
        TRANSIENT_ERRORS.labels(self._sink.group).inc()
        log.warning("consumer.put_off", group=self._sink.group, error=repr(error), partitions=len(batches))
        for batch in batches:
            if lease := self._lease_of(batch):
                lease.fail(batch)

    def _lose(self, batches: Iterable[PartitionBatch], fenced: Collection[TopicPartition]) -> None:
        """Give up the leases of these batches that were fenced; a later lease of the same partition goes on."""
        read = [TopicPartition(batch.topic, batch.partition) for batch in batches if self._lease_of(batch)]
        partitions = [partition for partition in read if partition in fenced]
        FENCED.labels(self._sink.group).inc(len(partitions))
        log.warning("consumer.fenced", group=self._sink.group, partitions=[list(item) for item in sorted(partitions)])
        for partition in partitions:
            del self._leases[partition]
        self._lost.update(partitions)
        self._lost_at = time.monotonic()

    def _claim_lost(self) -> None:
        """Claim again what a zombie took from us: if the group still says it is ours after a while, it is."""
        if not self._lost or time.monotonic() - self._lost_at < RECLAIM_SECONDS:
            return
        if self._claiming is None or self._claiming.done():
            mine = sorted(self._lost & self._consumer.assignment())
            self._lost.clear()
            self._claiming = asyncio.create_task(self._claim(self._generation, mine))

    def _counted(self, batch: PartitionBatch) -> PartitionBatch:
        """The batch with its dead letters in a row."""
        lease = self._leases[TopicPartition(batch.topic, batch.partition)]
        return replace(batch, dead_in_a_row=_trailing_run(batch, lease.dead_in_a_row))

    def _alarm(self, batch: PartitionBatch) -> None:
        """Tell of a flood, all of it buried. Raises DeadLetterFlood when the settings say so."""
        last = batch.poison[-1]
        FLOODS.labels(self._sink.group, self._topics[batch.topic].name).inc()
        problem = (
            f"{MAX_DEAD_LETTERS_IN_A_ROW} records in a row of {batch.topic}[{batch.partition}] became dead letters, "
            f"the last at {last.offset}: {last.error_class}: {last.error[:500]}"
        )
        log.error("consumer.dead_letter_flood", group=self._sink.group, problem=problem)
        if self._kafka.on_dead_letter_flood == "stop":
            raise DeadLetterFlood(f"{problem}. A restart goes on behind them. See KAFKA_ON_DEAD_LETTER_FLOOD.")

    async def _note(self, batches: Sequence[PartitionBatch], error: Exception) -> None:
        """Tell those who watch, if the store can be reached; the log has it anyhow."""
        try:
            async with asyncio.timeout(NOTE_SECONDS):
                await self._sink.note_error(batches, repr(error))
        except Exception as failure:
            if not self._sink.is_transient(failure):
                raise

    async def _back_off(self, tries: int, error: Exception) -> None:
        TRANSIENT_ERRORS.labels(self._sink.group).inc()
        delay = _pause_seconds(tries)
        log.warning("consumer.backing_off", group=self._sink.group, error=repr(error), seconds=round(delay, 2))
        await asyncio.sleep(delay)

    def _written(self, batches: Sequence[PartitionBatch]) -> None:
        self._progressed_at = time.monotonic()
        group = self._sink.group
        BATCH_RECORDS.labels(group).observe(sum(batch.size for batch in batches))
        floods = []
        for batch in batches:
            partition = TopicPartition(batch.topic, batch.partition)
            self._to_commit[partition] = batch.next_offset
            if lease := self._leases.get(partition):
                if lease.dead_in_a_row < MAX_DEAD_LETTERS_IN_A_ROW <= _longest_run(batch, lease.dead_in_a_row):
                    floods.append(batch)
                lease.dead_in_a_row = batch.dead_in_a_row
                lease.written_offset = batch.next_offset
                lease.failures = 0
            topic = self._topics[batch.topic].name
            APPLIED.labels(group, topic).inc(len(batch.received))
            DEAD_LETTERS.labels(group, topic).inc(len(batch.poison))
            if batch.received:
                LATENCY.labels(group).observe(max(0.0, time.time() - _recorded_at(batch.received[0])))
        for batch in floods:
            self._alarm(batch)

    async def _claim(self, generation: int, partitions: Sequence[TopicPartition]) -> None:
        """Fence earlier owners, find out where to go on, and only then let the partitions be polled."""
        if not partitions:
            return
        tries = 0
        while True:
            tries += 1
            try:
                claims = await self._sink.claim(partitions)
                beginnings = await self._consumer.beginning_offsets(partitions)
                ends = await self._consumer.end_offsets(partitions)
                found = await lag.event_ids_at(self._kafka, _anchor_places(claims, beginnings, ends))
                break
            except Exception as error:
                if not (isinstance(error, KafkaError) or self._sink.is_transient(error)):
                    raise
                await self._back_off(tries, error)
        if generation != self._generation:
            return
        for partition in partitions:
            offset = self._start(partition, claims[partition], beginnings[partition], ends[partition], found)
            self._consumer.seek(partition, offset)
            topic = self._topics[partition.topic]
            self._leases[partition] = _Lease(topic, claims[partition].epoch, offset, offset, offset)
        log.info("consumer.claimed", group=self._sink.group, partitions=len(partitions), generation=generation)

    def _start(
        self, partition: TopicPartition, claim: Claim, beginning: int, end: int, found: dict[TopicPartition, str | None]
    ) -> int:
        """Where to read on. Raises OffsetGap or TopicRecreated when the settings say so."""
        if claim.next_offset is None:
            return beginning
        name = f"{partition.topic}[{partition.partition}]"
        if claim.next_offset > end or (partition in found and found[partition] != claim.anchor):
            problem = (
                f"{name} is not the topic that {self._sink.group} has read up to {claim.next_offset}: it ends at {end}"
            )
            if self._kafka.on_topic_recreated == "fail":
                raise TopicRecreated(
                    f"{problem}. Publish all events again (python -m services.inventory republish --all) and set "
                    "KAFKA_ON_TOPIC_RECREATED=restart: sequences drop what was applied before."
                )
            log.warning("consumer.topic_recreated", problem=problem)
            return beginning
        if claim.next_offset < beginning:
            GAPS.labels(self._sink.group).inc()
            problem = f"{name} begins at {beginning}, {self._sink.group} is at {claim.next_offset}"
            if self._kafka.on_gap == "fail":
                raise OffsetGap(f"{problem}: records were deleted before they were applied. See KAFKA_ON_GAP.")
            log.error("consumer.offset_gap", problem=problem)
            return beginning if self._kafka.on_gap == "earliest" else end
        return claim.next_offset

    async def _commit_to_kafka(self) -> None:
        """Tell lag tools where we are. Refusals are normal during a rebalance and change nothing."""
        self._committed_at = time.monotonic()
        # A rebalance that is under way takes partitions before we are told of it.
        assigned = self._consumer.assignment()
        for partition, lease in self._leases.items():
            if partition in assigned and (highwater := self._consumer.highwater(partition)) is not None:
                behind = highwater - lease.written_offset
                place = (self._sink.group, lease.topic.name, partition.partition)
                LAG_MESSAGES.labels(*place).set(max(0, behind))
                waited = time.time() - lease.last.timestamp / 1000 if lease.last and behind > 0 else 0.0
                LAG_SECONDS.labels(*place).set(waited)
        offsets = {partition: offset for partition, offset in self._to_commit.items() if partition in self._leases}
        self._to_commit.clear()
        if not offsets:
            return
        try:
            await asyncio.wait_for(self._consumer.commit(offsets), STOP_SECONDS)
        except (CommitFailedError, IllegalStateError, KafkaError, TimeoutError):
            COMMIT_ERRORS.labels(self._sink.group).inc()


def _pause_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row: longer each time, with jitter."""
    return random.uniform(0.5, 1.0) * min(0.1 * 2.0 ** min(failures, 7), 10.0)


def _recorded_at(received: Received) -> float:
    """When an event was recorded, in seconds since 1970; when it was sent, where a third party does not tell."""
    event = received.event
    return event.recorded_at.timestamp() if isinstance(event, Event) else received.record.timestamp / 1000


def _anchor_places(
    claims: dict[TopicPartition, Claim], beginnings: dict[TopicPartition, int], ends: dict[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """The records before the claimed offsets, where they still exist."""
    return {
        partition: claim.next_offset - 1
        for partition, claim in claims.items()
        if claim.next_offset and claim.anchor and beginnings[partition] < claim.next_offset <= ends[partition]
    }


def _parts(batches: Sequence[PartitionBatch]) -> Sequence[PartitionBatch]:
    """Smaller writes: each partition by itself, then halves."""
    return batches if len(batches) > 1 else batches[0].split()


def _condemned(batches: Iterable[PartitionBatch], error: Exception) -> list[PartitionBatch]:
    """The batches with the records that the error is about as poison. Raises the error when that is nothing new."""
    records = {
        RecordId(batch.topic, batch.partition, item.offset): item for batch in batches for item in batch.received
    }
    named = error.reasons if isinstance(error, PoisonError) else {record_id: str(error) for record_id in records}
    name = type(error.__cause__ or error).__name__
    dead = {
        record_id: Poison(records[record_id].offset, records[record_id].record, name, reason)
        for record_id, reason in named.items()
        if record_id in records
    }
    if not dead:
        raise error
    return [batch.condemn(dead) for batch in batches]


def _runs(batch: PartitionBatch, before: int) -> Iterable[int]:
    """How many records in a row are poison, after each record of the batch."""
    poison = {item.offset for item in batch.poison}
    run = before
    for offset in sorted(poison | {item.offset for item in batch.received}):
        run = run + 1 if offset in poison else 0
        yield run


def _longest_run(batch: PartitionBatch, before: int) -> int:
    return max(_runs(batch, before), default=0) if batch.poison else 0


def _trailing_run(batch: PartitionBatch, before: int) -> int:
    if not batch.poison:
        return 0 if batch.received else before
    *_, last = _runs(batch, before)
    return last


def _raise_failure(task: asyncio.Task[None] | None) -> None:
    if task and task.done() and not task.cancelled() and (error := task.exception()):
        raise error


async def _cancel(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel and wait, without hiding our own cancellation. Their failures were raised already or come too late."""
    running = [task for task in tasks if task and not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
