"""The relay: outbox rows to Kafka, in order per key, deleted after the broker acknowledged them.

An event that the broker refuses as too large is set aside in its row, and those behind it are sent.

Several relays may run: each owns a fair share of the shards by advisory lock on a connection of its own, and takes
over the shards of one that died. A relay that dies between sending and deleting makes repeats, never gaps;
consumers drop repeats by `sequence` or `eventId`.
"""

import asyncio
import random
from collections import Counter as Tally
from collections.abc import Awaitable, Sequence
from contextlib import suppress

import asyncpg
import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder
from prometheus_client import Counter, Gauge

from libs.events import client, outbox
from libs.events.failpoints import failpoint
from libs.events.postgres import TRANSIENT
from libs.events.producer import partition_of, producer
from libs.events.settings import KafkaSettings

log = structlog.get_logger()

PUBLISHED = Counter("stockflow_relay_published_total", "Records acknowledged by the broker.", ["topic"])
REFUSED = Counter("stockflow_relay_refused_total", "Records that the broker refused as too large.", ["topic"])
RESTARTS = Counter("stockflow_relay_restarts_total", "Times the relay started over after an error.")
OWNED_SHARDS = Gauge("stockflow_relay_owned_shards", "Outbox shards that this relay sends.")
DEPTH = Gauge("stockflow_outbox_depth", "Events that wait in the outbox.")
SET_ASIDE = Gauge("stockflow_outbox_refused", "Events in the outbox that were refused, and wait for a person.")
OLDEST_AGE = Gauge("stockflow_outbox_oldest_age_seconds", "Age of the oldest event in the outbox.")

ROWS_PER_SHARD = 500
SHORTEST_POLL_SECONDS = 0.005
LONGEST_POLL_SECONDS = 0.2
SHARE_SECONDS = 1.0
"""How often shards are shared out anew."""
MEASURE_SECONDS = 10.0
"""How often the depth is measured, which counts all rows."""

# Lock classes are per schema, because several services keep their outbox in one database.
_PRESENCE = "(hashtext('relay:' || current_schema()) & 2147483647)"
_OWNERSHIP = "(hashtext('outbox:' || current_schema()) & 2147483647)"

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_headers = msgspec.json.Decoder(dict[str, str]).decode


class _Refused(Exception):
    """The broker takes none of these rows, each sent by itself."""

    def __init__(self, error: KafkaError, rows: Sequence[asyncpg.Record]) -> None:
        super().__init__(str(error))
        self.error = error
        self.rows = rows


class Relay:
    """Sends one service's outbox. `run` returns only when asked to stop, and starts over after any error."""

    def __init__(self, *, database_url: str, kafka: KafkaSettings, name: str) -> None:
        self._database_url = database_url
        self._kafka = kafka
        self._name = name
        self._failures = 0
        self._most_rows = ROWS_PER_SHARD * outbox.SHARDS

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set."""
        while not stop.is_set():
            try:
                await self._session(stop)
            except (KafkaError, *TRANSIENT) as error:
                RESTARTS.inc()
                self._failures = min(self._failures + 1, 6)
                delay = 0.1 * 2**self._failures * random.uniform(0.5, 1.0)
                log.warning("relay.restarted", relay=self._name, error=repr(error), retry_in_seconds=round(delay, 2))
                await _sleep(stop, delay)

    async def _session(self, stop: asyncio.Event) -> None:
        """One database connection and one producer, until the first error or the end."""
        connection = await asyncpg.connect(
            self._database_url, command_timeout=30, server_settings={"application_name": self._name}
        )
        sender = producer(self._kafka, self._name)
        try:
            await connection.execute(f"SELECT pg_advisory_lock({_PRESENCE}, pg_backend_pid())")
            await client.start(sender)
            await self._pump(connection, sender, stop)
        finally:
            OWNED_SHARDS.set(0)
            with suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(sender.stop(), 10)
            connection.terminate()

    async def _pump(self, connection: asyncpg.Connection, sender: AIOKafkaProducer, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        shards: list[int] = []
        share_at = measure_at = 0.0
        pause = SHORTEST_POLL_SECONDS
        while not stop.is_set():
            if loop.time() >= share_at:
                shards = await _fair_share(connection, shards)
                share_at = loop.time() + SHARE_SECONDS
            if loop.time() >= measure_at:
                await _measure(connection)
                measure_at = loop.time() + MEASURE_SECONDS
            rows = await _waiting(connection, shards)
            if rows:
                try:
                    await self._send(sender, rows)
                except _Refused as refused:
                    await _set_aside(connection, refused)
                    raise refused.error from refused
                self._failures = 0
                await connection.execute("DELETE FROM outbox WHERE id = ANY($1::bigint[])", [row["id"] for row in rows])
                pause = SHORTEST_POLL_SECONDS
            else:
                await _sleep(stop, pause)
                pause = min(pause * 2, LONGEST_POLL_SECONDS)

    async def _send(self, sender: AIOKafkaProducer, rows: Sequence[asyncpg.Record]) -> None:
        """Send all rows, in order within each partition, and wait for every acknowledgement.

        Whole batches are built here because handing over record by record costs three times as much.
        """
        sent: list[tuple[Awaitable[object], list[asyncpg.Record]]] = []
        open_batches: dict[tuple[str, int], tuple[BatchBuilder, list[asyncpg.Record]]] = {}
        topics = {name: self._kafka.topic(name) for name in {row["topic"] for row in rows}}
        partitions = {topic: tuple(sorted(await sender.partitions_for(topic))) for topic in topics.values()}

        async def close(topic: str, partition: int) -> None:
            batch, contents = open_batches.pop((topic, partition))
            sent.append((await sender.send_batch(batch, topic, partition=partition), contents))

        for row in rows:
            topic, key = topics[row["topic"]], row["key"].encode()
            place = (topic, partition_of(key, partitions[topic]))
            while place not in open_batches or not self._append(*open_batches[place], key, row):
                if place in open_batches:
                    await close(*place)
                open_batches[place] = sender.create_batch(), []
        for place in list(open_batches):
            await close(*place)
        answers = await asyncio.gather(*(answer for answer, _ in sent), return_exceptions=True)
        self._raise_failure([(answer, contents) for answer, (_, contents) in zip(answers, sent, strict=True)])
        failpoint("relay.sent")
        for name, count in Tally(row["topic"] for row in rows).items():
            PUBLISHED.labels(name).inc(count)

    def _append(self, batch: BatchBuilder, contents: list[asyncpg.Record], key: bytes, row: asyncpg.Record) -> bool:
        """Whether the row found room; an empty batch takes a row of any size."""
        headers = [(name, value.encode()) for name, value in _headers(row["headers"]).items()]
        if len(contents) == self._most_rows or not batch.append(
            key=key, value=row["value"], timestamp=None, headers=headers
        ):
            return False
        contents.append(row)
        return True

    def _raise_failure(self, answers: Sequence[tuple[object, list[asyncpg.Record]]]) -> None:
        """Raise the first error, but _Refused where a row by itself is too large.

        A batch that is too large says nothing of its rows: from then on each is sent by itself.
        """
        too_large = [(error, contents) for error, contents in answers if isinstance(error, _TOO_LARGE)]
        if any(len(contents) > 1 for _, contents in too_large):
            self._most_rows = 1
        if alone := [(error, contents[0]) for error, contents in too_large if len(contents) == 1]:
            raise _Refused(alone[0][0], [row for _, row in alone])
        for answer, _ in answers:
            if isinstance(answer, BaseException):
                raise answer


async def _set_aside(connection: asyncpg.Connection, refused: _Refused) -> None:
    for row in refused.rows:
        REFUSED.labels(row["topic"]).inc()
        log.error("relay.refused", topic=row["topic"], key=row["key"], id=row["id"], bytes=len(row["value"]))
    await connection.execute(
        "UPDATE outbox SET refusal = $2 WHERE id = ANY($1::bigint[])",
        [row["id"] for row in refused.rows],
        str(refused.error),
    )


async def _waiting(connection: asyncpg.Connection, shards: Sequence[int]) -> list[asyncpg.Record]:
    """The oldest rows that are still there, of each shard at most ROWS_PER_SHARD, in id order.

    Never "id > last": ids of one key rise in commit order, but ids of different keys do not.
    """
    return await connection.fetch(
        """
        SELECT row.*
          FROM unnest($1::smallint[]) AS owned(shard)
         CROSS JOIN LATERAL (SELECT id, topic, key, value, headers
                               FROM outbox WHERE outbox.shard = owned.shard AND refusal IS NULL
                              ORDER BY id LIMIT $2) AS row
         ORDER BY row.id
        """,
        shards,
        ROWS_PER_SHARD,
    )


async def _fair_share(connection: asyncpg.Connection, owned: Sequence[int]) -> list[int]:
    """Give back shards beyond a fair share of the relays that live, take free ones up to it; the shards now owned.

    Only called while nothing is in flight, so a shard that is given back has no unsent rows in memory.
    """
    relays = await connection.fetchval(
        f"""
        SELECT count(*) FROM pg_locks
         WHERE locktype = 'advisory' AND granted AND classid::bigint = {_PRESENCE}
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """
    )
    fair = -(-outbox.SHARDS // max(relays, 1))
    kept = list(owned[:fair])
    for shard in owned[fair:]:
        await connection.execute(f"SELECT pg_advisory_unlock({_OWNERSHIP}, $1)", shard)
    for shard in range(outbox.SHARDS):
        if len(kept) == fair:
            break
        if shard not in owned and await connection.fetchval(f"SELECT pg_try_advisory_lock({_OWNERSHIP}, $1)", shard):
            kept.append(shard)
    OWNED_SHARDS.set(len(kept))
    return kept


async def _measure(connection: asyncpg.Connection) -> None:
    waiting = await outbox.depth(connection)
    DEPTH.set(waiting.depth)
    SET_ASIDE.set(waiting.refused)
    OLDEST_AGE.set(waiting.oldest_age_seconds)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but wake up when asked to stop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
