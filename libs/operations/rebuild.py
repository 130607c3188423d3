"""Builds the results of a consumer group anew from the beginning of its topics, beside the running workers.

A new generation of the group fills copies of the tables in `<schema>_rebuild`. When it has caught up, the offsets of
the running workers are locked, the copies take the place of the contents, and the workers are fenced: they claim again
and go on where the new generation stands. Readers see the old results until the switch commits, then the new ones.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from libs.chassis.database import Connection, Pool, acquired, open_pool
from libs.events import lag
from libs.events.consumer import Runner
from libs.events.offsets import PostgresSink
from libs.events.postgres import Handler
from libs.events.settings import KafkaSettings
from libs.events.topics import Topic

POLL_SECONDS = 0.2
SWITCH_SECONDS = 30.0
"""How long running workers may be held up while the new generation applies the last records."""

_EVENT_TABLES = ("consumer_offset", "dead_letter", "outbox")

Progress = Callable[[int, int], None]
"""Called with the records applied and the records there are."""


class RecordsGone(Exception):
    """The topics do not begin at the beginning any more."""


class NotCaughtUp(Exception):
    """Records arrive faster than the new generation applies them."""


@dataclass(frozen=True, slots=True)
class Built:
    """A table whose rows the new generation's take the place of."""

    name: str
    counter: str | None = None
    """A column that may only rise, and does so when its row changes."""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """What to build anew."""

    group: str
    schema: str
    topics: Sequence[Topic]
    tables: Sequence[Built]
    handle: Handler
    after_switch: Callable[[Connection], Awaitable[None]]
    """Runs in the transaction of the switch, for instance to mark everything that depends on the results."""
    scratch: Sequence[str] = ()
    """Tables that the handler writes, too, but whose rows stay as they are."""
    keeps_others: bool = False
    """Whether rows that no event accounts for stay."""

    @property
    def shadow(self) -> str:
        """The schema of the copies."""
        return f"{self.schema}_rebuild"


async def rebuild(job: Rebuild, *, database_url: str, kafka: KafkaSettings, progress: Progress) -> None:
    """Do it, while the workers go on. Raises RecordsGone, NotCaughtUp, and whatever the handler raises.

    Published events and dead letters of the new generation are thrown away: the running one has sent them already.
    """
    await refuse_short_topics(job.topics, kafka)
    pool = await open_pool(
        database_url,
        size=4,
        application_name=f"{job.group}-rebuild",
        statement_timeout_ms=600_000,
        lock_timeout_ms=60_000,
        search_path=f"{job.shadow},{job.schema}",
    )
    kafka = kafka.model_copy(update={"group_instance_id": None})
    stop = asyncio.Event()
    async with pool:
        await _create_shadows(pool, job)
        sink = PostgresSink(pool, job.group, job.handle, owner="rebuild")
        runner = Runner(sink, topics=job.topics, kafka=kafka, kafka_group=f"{job.group}-rebuild")
        running = asyncio.create_task(runner.run(stop))
        try:
            await _catch_up(pool, job, kafka, running, progress)
            await _switch(pool, job, running, stop)
        finally:
            stop.set()
            await asyncio.wait({running})


async def refuse_short_topics(topics: Sequence[Topic], kafka: KafkaSettings) -> None:
    """Raise RecordsGone unless all topics still begin at the beginning."""
    beginnings = await lag.beginning_offsets(kafka, [kafka.topic(topic.name) for topic in topics])
    gone = [f"{place.topic}[{place.partition}] begins at {offset}" for place, offset in beginnings.items() if offset]
    if gone:
        raise RecordsGone(f"{'; '.join(gone)}: publish all events again (republish --all) into new topics first")


async def _create_shadows(pool: Pool, job: Rebuild) -> None:
    async with acquired(pool) as connection, connection.transaction():
        for table in (*(built.name for built in job.tables), *job.scratch, *_EVENT_TABLES):
            await connection.execute(f"DROP TABLE IF EXISTS {job.shadow}.{table}")
            await connection.execute(f"CREATE TABLE {job.shadow}.{table} (LIKE {job.schema}.{table} INCLUDING ALL)")


async def _catch_up(
    pool: Pool, job: Rebuild, kafka: KafkaSettings, running: asyncio.Task[None], progress: Progress
) -> None:
    ends = await lag.end_offsets(kafka, [kafka.topic(topic.name) for topic in job.topics])
    total = sum(ends.values())
    while True:
        async with acquired(pool) as connection:
            applied = await connection.fetchval("SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offset")
        progress(min(applied, total), total)
        if applied >= total:
            return
        await _unless_failed(running)


async def _switch(pool: Pool, job: Rebuild, running: asyncio.Task[None], stop: asyncio.Event) -> None:
    async with acquired(pool) as connection, connection.transaction():
        await connection.execute(
            f"SELECT FROM {job.schema}.consumer_offset WHERE group_name = $1 FOR UPDATE", job.group
        )
        try:
            async with asyncio.timeout(SWITCH_SECONDS):
                while await _is_behind(connection, job):
                    await _unless_failed(running)
        except TimeoutError as error:
            raise NotCaughtUp(f"{job.group} was still behind after {SWITCH_SECONDS:.0f} s; nothing changed") from error
        stop.set()
        await running
        for table in job.tables:
            await _replace(connection, job, table)
        await connection.execute(
            f"""
            INSERT INTO {job.schema}.consumer_offset AS stored SELECT * FROM {job.shadow}.consumer_offset
            ON CONFLICT (group_name, topic, partition) DO UPDATE
               SET next_offset = excluded.next_offset, anchor_event_id = excluded.anchor_event_id,
                   epoch = stored.epoch + 1, owner = excluded.owner, updated_at = now(),
                   max_event_time = excluded.max_event_time
            """
        )
        await connection.execute(f"SET LOCAL search_path = {job.schema}")
        await job.after_switch(connection)


async def _is_behind(connection: Connection, job: Rebuild) -> bool:
    """Whether running workers have applied a record that the new generation has not."""
    behind: bool = await connection.fetchval(
        f"""
        SELECT EXISTS (
            SELECT FROM {job.schema}.consumer_offset AS stored
              LEFT JOIN {job.shadow}.consumer_offset AS built USING (group_name, topic, partition)
             WHERE stored.group_name = $1 AND coalesce(built.next_offset, 0) < stored.next_offset)
        """,
        job.group,
    )
    return behind


async def _replace(connection: Connection, job: Rebuild, built: Built) -> None:
    """Make the rows of a table those of its copy; rows that are equal already are not touched."""
    table = built.name
    key, columns = await _columns(connection, job.schema, table)
    real, copy = f"{job.schema}.{table}", f"{job.shadow}.{table}"
    if not job.keeps_others:
        same = " AND ".join(f"copy.{name} = {table}.{name}" for name in key)
        await connection.execute(f"DELETE FROM {real} WHERE NOT EXISTS (SELECT FROM {copy} AS copy WHERE {same})")
    compared = [name for name in columns if name != built.counter]
    changes = {name: f"excluded.{name}" for name in compared if name not in key}
    if built.counter:
        changes[built.counter] = f"greatest({table}.{built.counter}, excluded.{built.counter}) + 1"
    ours = ", ".join(f"{table}.{name}" for name in compared)
    theirs = ", ".join(f"excluded.{name}" for name in compared)
    names = ", ".join(columns)
    update = ", ".join(f"{name} = {change}" for name, change in changes.items())
    await connection.execute(
        f"""
        INSERT INTO {real} ({names}) SELECT {names} FROM {copy}
        ON CONFLICT ({", ".join(key)}) DO UPDATE SET {update}
         WHERE ({ours}) IS DISTINCT FROM ({theirs})
        """
    )


async def _columns(connection: Connection, schema: str, table: str) -> tuple[list[str], list[str]]:
    """The columns of the primary key, and all that can be written."""
    rows = await connection.fetch(
        """
        SELECT quote_ident(attname) AS name, attnum = ANY (indkey) AS in_key
          FROM pg_attribute JOIN pg_index ON indrelid = attrelid AND indisprimary
         WHERE attrelid = format('%I.%I', $1::text, $2::text)::regclass
           AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
         ORDER BY attnum
        """,
        schema,
        table,
    )
    if not rows:
        raise LookupError(f"{schema}.{table} has no primary key")
    return [row["name"] for row in rows if row["in_key"]], [row["name"] for row in rows]


async def _unless_failed(running: asyncio.Task[None]) -> None:
    """Wait a moment, or raise what ended the new generation."""
    done, _ = await asyncio.wait({running}, timeout=POLL_SECONDS)
    if done:
        await running
        raise NotCaughtUp("the new generation ended before it had caught up")
