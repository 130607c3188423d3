"""A new generation of a consumer group reads the topics from their beginning, beside the running workers.

What people have decided about dead letters of the running workers holds for it, too: an edited value is applied in
place of its record, and a discarded record is left out.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from aiokafka import ConsumerRecord, TopicPartition

from libs.events import decoding, lag
from libs.events.consumer import DeadLetterFlood, Runner
from libs.events.dead_letter_retry import Status
from libs.events.decoding import Decoded, Poison
from libs.events.settings import KafkaSettings
from libs.events.sink import Claim, PartitionBatch, RecordId, Sink
from libs.events.topics import Topic

POLL_SECONDS = 0.2
MOST_NEW_DEAD_LETTERS = 10_000
"""With more, the deployment is at fault, not the data."""

Progress = Callable[[int, int], None]
"""Called with the records applied and the records there are."""


class RebuildRefused(Exception):
    """The results stay as they are."""


class RecordsGone(RebuildRefused):
    """The topics do not begin at the beginning any more."""


class NotCaughtUp(RebuildRefused):
    """Records arrive faster than the new generation applies them, or it can apply none."""


class AlreadyRunning(RebuildRefused):
    """Another rebuild of the group has not ended."""


class LettersChanged(RebuildRefused):
    """Dead letters were edited or discarded while the topics were read."""


class NewDeadLetters(RebuildRefused):
    """The new generation cannot apply records that the running workers have applied."""

    def __init__(self, dead: Mapping[RecordId, Poison]) -> None:
        lines = []
        for place, poison in sorted(dead.items(), key=lambda item: item[0]):
            first_line, *_ = poison.error.splitlines() or [""]
            lines.append(f"{place.topic}[{place.partition}]@{place.offset}\t{poison.error_class}: {first_line}")
        super().__init__(
            "\n".join(
                [
                    f"{len(dead)} records that count now could not be applied again; nothing changed:",
                    *lines,
                    "With --accept-dead-letters they become dead letters.",
                ]
            )
        )


@dataclass(frozen=True, slots=True)
class KnownLetter:
    """A dead letter of the running workers."""

    status: Status
    value: bytes | None
    edited_value: bytes | None

    @property
    def applied_value(self) -> bytes | None:
        """What is to be applied at its place."""
        if self.status is Status.DISCARDED:
            return None
        edited = self.edited_value if self.status is Status.RESOLVED else None
        return self.value if edited is None else edited


class Generation:
    """The sink of a new generation, around the one that writes its results."""

    def __init__(
        self, sink: Sink, letters: Mapping[RecordId, KnownLetter], *, topics: Sequence[Topic], kafka: KafkaSettings
    ) -> None:
        """`letters` are those of the running workers."""
        self.group = sink.group
        self.dead: dict[RecordId, Poison] = {}
        """What it cannot apply."""
        self._sink = sink
        self._letters = letters
        self._met: set[RecordId] = set()
        """The places of letters that were read with the letter's record there."""
        self._decoded: set[RecordId] = set()
        """Those of them whose record is an event."""
        self._topics = topics
        self._kafka = kafka.model_copy(update={"group_instance_id": None})
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """It reads within the block, unless `finish` ends that before."""
        runner = Runner(
            self, topics=self._topics, kafka=self._kafka, kafka_group=f"{self.group}-rebuild", decode=self._decode
        )
        self._running = asyncio.create_task(runner.run(self._stop))
        try:
            yield
        finally:
            self._stop.set()
            await asyncio.wait({self._running})

    async def catch_up(self, applied: Callable[[], Awaitable[int]], progress: Progress) -> None:
        """Return as soon as `applied` says that the records that were there at the start are. Raises NotCaughtUp."""
        ends = await lag.end_offsets(self._kafka, [self._kafka.topic(topic.name) for topic in self._topics])
        total = sum(ends.values())
        while (done := await applied()) < total:
            progress(done, total)
            await self.go_on()
        progress(total, total)

    async def go_on(self) -> None:
        """Let it read for a moment. Raises NotCaughtUp when that leads nowhere."""
        assert self._running
        if len(self.dead) > MOST_NEW_DEAD_LETTERS + len(self._letters):
            raise NotCaughtUp(f"more than {MOST_NEW_DEAD_LETTERS:,} records could not be applied; nothing changed")
        ended, _ = await asyncio.wait({self._running}, timeout=POLL_SECONDS)
        if ended:
            try:
                await self._running
            except DeadLetterFlood as error:
                raise NotCaughtUp(str(error)) from error
            raise NotCaughtUp("the new generation ended before it had caught up")

    async def finish(self) -> None:
        """Write what is in hand, and read no more."""
        assert self._running
        self._stop.set()
        await self._running

    def lost(self, letters: Mapping[RecordId, KnownLetter], *, accept: bool) -> list[PartitionBatch]:
        """What became dead letters only now, given those of the running workers as they are after the reading.

        Raises LettersChanged, and NewDeadLetters unless such are accepted.
        """
        for place, letter in letters.items():
            before = self._letters.get(place)
            if letter.applied_value != (before.applied_value if before else letter.value):
                raise LettersChanged(
                    f"dead letter {place.topic}[{place.partition}]@{place.offset} is {letter.status} since the topics "
                    "were read; nothing changed. Try again."
                )
        dead = {
            place: poison
            for place, poison in self.dead.items()
            if place not in letters or letters[place].status is Status.RESOLVED
        }
        if dead and not accept:
            raise NewDeadLetters(dead)
        return [
            PartitionBatch(place.topic, place.partition, 0, [], [poison], place.offset + 1, None)
            for place, poison in sorted(dead.items(), key=lambda item: item[0])
        ]

    def healed(self, letters: Mapping[RecordId, KnownLetter]) -> list[RecordId]:
        """The pending letters whose records it has applied."""
        return [
            place
            for place in sorted(self._decoded - self.dead.keys())
            if place in letters and letters[place].status is Status.PENDING
        ]

    def _decode(self, topic: Topic, records: Sequence[ConsumerRecord]) -> Decoded:
        if not self._letters:
            return decoding.decode(topic, records)
        decoded = decoding.decode(topic, [decided for record in records for decided in self._decided(record)])
        places = {RecordId(item.record.topic, item.record.partition, item.offset) for item in decoded.received}
        self._decoded |= places & self._met
        return decoded

    def _decided(self, record: ConsumerRecord) -> list[ConsumerRecord]:
        """The record as people have decided: as it is, edited, or not at all."""
        place = RecordId(record.topic, record.partition, record.offset)
        letter = self._letters.get(place)
        # In a topic that was recreated another record may stand there.
        if letter is None or letter.value != record.value:
            return [record]
        self._met.add(place)
        if letter.status is Status.DISCARDED:
            return []
        return [replace(record, value=letter.applied_value)]

    async def claim(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Claim]:
        """As Sink.claim."""
        return await self._sink.claim(partitions)

    async def write(self, batches: Sequence[PartitionBatch]) -> None:
        """As Sink.write."""
        await self._sink.write(batches)
        for batch in batches:
            for poison in batch.poison:
                self.dead[RecordId(batch.topic, batch.partition, poison.offset)] = poison

    async def note_error(self, batches: Sequence[PartitionBatch], error: str) -> None:
        """As Sink.note_error."""
        await self._sink.note_error(batches, error)

    async def retry_dead_letters(self) -> None:
        """As Sink.retry_dead_letters: they are the running workers' business."""

    def is_transient(self, error: BaseException) -> bool:
        """As Sink.is_transient."""
        return self._sink.is_transient(error)


async def refuse_short_topics(topics: Sequence[Topic], kafka: KafkaSettings) -> None:
    """Raise RecordsGone unless all topics still begin at the beginning."""
    beginnings = await lag.beginning_offsets(kafka, [kafka.topic(topic.name) for topic in topics])
    gone = [f"{place.topic}[{place.partition}] begins at {offset}" for place, offset in beginnings.items() if offset]
    if gone:
        raise RecordsGone(f"{'; '.join(gone)}: publish all events again (republish --all) into new topics first")
