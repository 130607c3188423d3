"""The relay: outbox rows to Kafka, in order per key, deleted after the broker acknowledged them.

Several relays may run: each owns a fair share of the shards by advisory lock on a connection of its own, and takes
over the shards of one that died. A relay that dies between sending and deleting makes repeats, never gaps;
consumers drop repeats by `sequence` or `eventId`.
"""

import asyncio
import random
from collections import Counter as Tally
from collections.abc import Sequence
from contextlib import suppress

import asyncpg
import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from prometheus_client import Counter, Gauge

from libs.events import client, outbox
from libs.events.failpoints import failpoint
from libs.events.postgres import TRANSIENT
from libs.events.producer import partition_of, producer
from libs.events.settings import KafkaSettings

log = structlog.get_logger()

PUBLISHED = Counter("stockflow_relay_published_total", "Records acknowledged by the broker.", ["topic"])
RESTARTS = Counter("stockflow_relay_restarts_total", "Times the relay started over after an error.")
OWNED_SHARDS = Gauge("stockflow_relay_owned_shards", "Outbox shards that this relay sends.")
DEPTH = Gauge("stockflow_outbox_depth", "Events that wait in the outbox.")
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

_headers = msgspec.json.Decoder(dict[str, str]).decode


class Relay:
    """Sends one service's outbox. `run` returns only when asked to stop, and starts over after any error."""

    def __init__(self, *, database_url: str, kafka: KafkaSettings, name: str) -> None:
        self._database_url = database_url
        self._kafka = kafka
        self._name = name
        self._failures = 0

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
                await self._send(sender, rows)
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
        acknowledgements = []
        open_batches: dict[tuple[str, int], BatchBuilder] = {}
        topics = {name: self._kafka.topic(name) for name in {row["topic"] for row in rows}}
        partitions = {topic: tuple(sorted(await sender.partitions_for(topic))) for topic in topics.values()}

        async def close(topic: str, partition: int) -> None:
            batch = open_batches.pop((topic, partition))
            acknowledgements.append(await sender.send_batch(batch, topic, partition=partition))

        for row in rows:
            topic, key = topics[row["topic"]], row["key"].encode()
            place = (topic, partition_of(key, partitions[topic]))
            batch = open_batches.get(place)
            while batch is None or not _append(batch, key, row):
                if batch is not None:
                    await close(*place)
                batch = open_batches[place] = sender.create_batch()
        for place in list(open_batches):
            await close(*place)
        await asyncio.gather(*acknowledgements)
        failpoint("relay.sent")
        for name, count in Tally(row["topic"] for row in rows).items():
            PUBLISHED.labels(name).inc(count)


def _append(batch: BatchBuilder, key: bytes, row: asyncpg.Record) -> bool:
    """Whether the row found room; an empty batch takes a row of any size."""
    headers = [(name, value.encode()) for name, value in _headers(row["headers"]).items()]
    return batch.append(key=key, value=row["value"], timestamp=None, headers=headers) is not None


async def _waiting(connection: asyncpg.Connection, shards: Sequence[int]) -> list[asyncpg.Record]:
    """The oldest rows that are still there, of each shard at most ROWS_PER_SHARD, in id order.

    Never "id > last": ids of one key rise in commit order, but ids of different keys do not.
    """
    return await connection.fetch(
        """
        SELECT row.*
          FROM unnest($1::smallint[]) AS owned(shard)
         CROSS JOIN LATERAL (SELECT id, topic, key, value, headers
                               FROM outbox WHERE outbox.shard = owned.shard ORDER BY id LIMIT $2) AS row
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
    OLDEST_AGE.set(waiting.oldest_age_seconds)


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but wake up when asked to stop."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
