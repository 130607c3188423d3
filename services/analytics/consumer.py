"""Consumer `analytics-history`: events of all topics become documents."""

import socket
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from prometheus_client import Counter

from libs.events import client, dead_letter
from libs.events.consumer import Runner
from libs.events.decoding import Poison
from libs.events.failpoints import failpoint
from libs.events.offsets import latest_event_time
from libs.events.outbox import Message
from libs.events.producer import producer
from libs.events.settings import KafkaSettings
from libs.events.sink import Claim, Fenced, PartitionBatch, RecordId
from libs.events.topics import ANALYTICS_EVENTS, INVENTORY_EVENTS, REORDER_EVENTS
from services.analytics import documents, history
from services.analytics.dead_letters import MongoDeadLetters
from services.analytics.documents import DocumentStore, Step, checkpoint_id, open_documents
from services.analytics.settings import Settings

log = structlog.get_logger()

GROUP = "analytics-history"
TOPICS = (INVENTORY_EVENTS, REORDER_EVENTS, ANALYTICS_EVENTS)

MIRRORS_REFUSED = Counter(
    "stockflow_history_mirrors_refused_total", "Dead letters whose mirror is too large for its topic.", ["topic"]
)
MOST_VALUE_BYTES = 12 * 2**20
"""What is kept of the value of a dead letter: a document of MongoDB has room for 16 MiB."""
MOST_KEY_BYTES = 2**20
MOST_HEADER_BYTES = 2**20
_HEADER_FRAMING_BYTES = 40


class HistorySink:
    """A sink in MongoDB: documents first, then the offset by compare-and-set.

    Documents are idempotent, so a crash between the two, or a late write of a fenced worker, changes nothing.
    """

    group = GROUP

    def __init__(self, store: DocumentStore, kafka: KafkaSettings, *, owner: str, mirrors: bool = True) -> None:
        """Records that cannot be applied are also sent to `<topic>.dlq`, if it `mirrors`."""
        self._store = store
        self._kafka = kafka
        self._owner = owner
        self._mirrors = mirrors

    async def claim(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Claim]:
        """As Sink.claim."""
        claims = {}
        for place in sorted(partitions):
            found = await self._store.claim(GROUP, place.topic, place.partition, self._owner)
            claims[place] = Claim(found.get("nextOffset"), found["epoch"], found.get("anchorEventId"))
        return claims

    async def write(self, batches: Sequence[PartitionBatch]) -> None:
        """As Sink.write, except that documents and offsets are not one transaction."""
        await self.bury(batches)
        await self._store.write(history.documents(item.event for batch in batches for item in batch.received))
        failpoint("history.written")
        stale = await self._store.advance([_step(batch) for batch in batches])
        if stale:
            raise Fenced(
                [TopicPartition(batch.topic, batch.partition) for batch in batches if _checkpoint(batch) in stale]
            )

    async def note_error(self, batches: Sequence[PartitionBatch], error: str) -> None:
        """As Sink.note_error."""
        noted = {"$set": {"lastError": dead_letter.printable(error)[:1000], "lastErrorAt": datetime.now(UTC)}}
        await self._store.advance([Step(_checkpoint(batch), batch.epoch, noted) for batch in batches])

    async def retry_dead_letters(self) -> None:
        """As Sink.retry_dead_letters."""
        await MongoDeadLetters(self._store).retry_due(GROUP)

    def is_transient(self, error: BaseException) -> bool:
        """As Sink.is_transient."""
        return documents.is_transient(error) or isinstance(error, KafkaError | OSError | TimeoutError)

    async def bury(self, batches: Sequence[PartitionBatch]) -> None:
        """Keep what cannot be applied, then mirror it. A crash in between mirrors it again."""
        dead = [(batch.topic, poison) for batch in batches for poison in batch.poison]
        if not dead:
            return
        await self._store.bury([_letter(topic, poison) for topic, poison in dead])
        mirrors = deque(
            dead_letter.mirror(GROUP, topic, poison, self._kafka.max_message_bytes)
            for topic, poison in dead
            if self._mirrors
        )
        while mirrors:
            await self._send(mirrors)

    async def _send(self, mirrors: deque[Message]) -> None:
        """Send mirrors until there are none, or one is too large for the topic: the dead letter itself is kept."""
        sender = producer(self._kafka, GROUP)
        try:
            await client.start(sender)
            while mirrors:
                mirror = mirrors[0]
                headers = [(name, value.encode()) for name, value in mirror.headers.items()]
                await sender.send_and_wait(
                    self._kafka.topic(mirror.topic), mirror.value, key=mirror.key.encode(), headers=headers
                )
                mirrors.popleft()
        except MessageSizeTooLargeError as error:
            refused = mirrors.popleft()
            MIRRORS_REFUSED.labels(refused.topic).inc()
            log.error("history.mirror_refused", place=refused.headers["dlq_place"], error=repr(error))
        finally:
            await sender.stop()


def _checkpoint(batch: PartitionBatch) -> str:
    return checkpoint_id(GROUP, batch.topic, batch.partition)


def _step(batch: PartitionBatch) -> Step:
    """The batch is written: its partition goes on behind it."""
    progress = {
        "nextOffset": batch.next_offset,
        "anchorEventId": batch.anchor,
        "deadLettersInARow": batch.dead_in_a_row,
        "lastError": None,
        "lastErrorAt": None,
    }
    latest = latest_event_time(batch)
    update: history.Document = {"$set": progress}
    if latest is not None:
        update["$max"] = {"maxEventTime": latest}
    return Step(_checkpoint(batch), batch.epoch, update)


def letter_id(place: RecordId) -> str:
    """The id of a dead letter; ids sort by partition and offset."""
    return f"{GROUP}|{place.topic}|{place.partition:06d}|{place.offset:020d}"


def _headers(record: ConsumerRecord) -> list[tuple[str, bytes]]:
    """The first headers, as many as a document has room for."""
    headers, room = [], MOST_HEADER_BYTES
    for name, value in record.headers or ():
        content = value or b""
        room -= len(name.encode()) + len(content) + _HEADER_FRAMING_BYTES
        if room < 0:
            break
        headers.append((name, content))
    return headers


def _letter(topic: str, poison: Poison) -> history.Document:
    record, now = poison.record, datetime.now(UTC)
    error, value, size = poison.error, record.value, len(record.value or b"")
    if value is not None and size > MOST_VALUE_BYTES:
        place = f"{topic}[{record.partition}]@{poison.offset}"
        error = f"only {MOST_VALUE_BYTES} of {size} bytes are kept, see {place}: {error}"
        value = value[:MOST_VALUE_BYTES]
    return {
        "_id": letter_id(RecordId(topic, record.partition, poison.offset)),
        "group": GROUP,
        "topic": topic,
        "partition": record.partition,
        "offset": poison.offset,
        "key": None if record.key is None else record.key[:MOST_KEY_BYTES],
        "value": value,
        "valueBytes": size,
        "headers": _headers(record),
        "eventType": dead_letter.header(record, "ce_type"),
        "eventId": dead_letter.header(record, "ce_id"),
        "errorClass": poison.error_class,
        "error": dead_letter.printable(error),
        "status": "pending",
        "attempts": 1,
        "recordTimestamp": dead_letter.sent_at(record),
        "createdAt": now,
        "updatedAt": now,
    }


@asynccontextmanager
async def open_runner(settings: Settings) -> AsyncIterator[Runner]:
    """The runner over all topics, connected to MongoDB within the block."""
    async with open_documents(settings.mongo_url.get_secret_value(), "analytics-consume") as store:
        await store.create_indexes_and_views()
        yield Runner(
            HistorySink(store, settings.kafka, owner=socket.gethostname()),
            topics=TOPICS,
            kafka=settings.kafka,
            flush_max_records=settings.flush_max_records,
            flush_max_age_seconds=settings.flush_max_age_seconds,
        )
