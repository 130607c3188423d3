"""Builds the results of a consumer group anew from the beginning of its topics, beside the running workers.

A new generation of the group fills copies of the tables in `<schema>_rebuild`. When it has caught up, the offsets of
the running workers are locked, the copies take the place of the contents, and the workers are fenced: they claim again
and go on where the new generation stands. Readers see the old results until the switch commits, then the new ones.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from libs.chassis.database import Connection, Pool, acquired, open_pool, own_connection
from libs.events import dead_letter, dead_letter_retry
from libs.events.dead_letter_retry import Status
from libs.events.offsets import PostgresSink
from libs.events.postgres import Handler
from libs.events.settings import KafkaSettings
from libs.events.sink import RecordId
from libs.events.topics import Topic
from libs.operations.generation import (
    AlreadyRunning,
    Generation,
    KnownLetter,
    NotCaughtUp,
    Progress,
    refuse_short_topics,
)

SWITCH_SECONDS = 30.0
"""How long running workers may be held up while the new generation applies the last records."""

_EVENT_TABLES = ("consumer_offset", "dead_letter", "outbox")


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


async def rebuild(
    job: Rebuild, *, database_url: str, kafka: KafkaSettings, progress: Progress, accept_dead_letters: bool = False
) -> None:
    """Do it, while the workers go on. Raises RebuildRefused, and whatever ends the new generation.

    Records that it cannot apply although the running workers have are a reason to refuse, or become dead letters if
    that is accepted. Its published events are thrown away: the running workers have sent them already.
    """
    async with _alone(database_url, job.group):
        await refuse_short_topics(job.topics, kafka)
        pool = await open_pool(
            database_url,
            size=4,
            application_name=f"{job.group}-rebuild",
            statement_timeout_ms=600_000,
            lock_timeout_ms=60_000,
            search_path=f"{job.shadow},{job.schema}",
        )
        async with pool, _shadows(pool, job) as letters:
            sink = PostgresSink(pool, job.group, job.handle, owner="rebuild")
            generation = Generation(sink, letters, topics=job.topics, kafka=kafka)
            async with generation.reading(), acquired(pool) as connection:
                await generation.catch_up(lambda: _applied(connection), progress)
                await _switch(connection, job, generation, accept=accept_dead_letters)


@asynccontextmanager
async def _alone(database_url: str, group: str) -> AsyncIterator[None]:
    """Within the block no other rebuild of the group runs. Raises AlreadyRunning."""
    async with own_connection(database_url, application_name=f"{group}-rebuild-lock") as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", f"rebuild {group}"):
            raise AlreadyRunning(f"another rebuild of {group} is running")
        yield


@asynccontextmanager
async def _shadows(pool: Pool, job: Rebuild) -> AsyncIterator[dict[RecordId, KnownLetter]]:
    """Empty copies of the tables within the block, and the dead letters of the running workers at its start.

    The new generation finds the places of these in its own copy, for handlers that ask for them.
    """
    tables = *(built.name for built in job.tables), *job.scratch, *_EVENT_TABLES
    async with acquired(pool) as connection, connection.transaction():
        for table in tables:
            await connection.execute(f"DROP TABLE IF EXISTS {job.shadow}.{table}")
            await connection.execute(f"CREATE TABLE {job.shadow}.{table} (LIKE {job.schema}.{table} INCLUDING ALL)")
        letters = await _known_letters(connection, job)
        places = "group_name, topic, partition, record_offset, error_class, error, record_timestamp"
        await connection.execute(
            f"""
            INSERT INTO {job.shadow}.dead_letter ({places})
            SELECT {places} FROM {job.schema}.dead_letter WHERE group_name = $1
            """,
            job.group,
        )
    try:
        yield letters
    finally:
        async with acquired(pool) as connection:
            await connection.execute("DROP TABLE " + ", ".join(f"{job.shadow}.{table}" for table in tables))


async def _known_letters(connection: Connection, job: Rebuild, lock: str = "") -> dict[RecordId, KnownLetter]:
    rows = await connection.fetch(
        f"""
        SELECT topic, partition, record_offset, status, value, edited_value
          FROM {job.schema}.dead_letter WHERE group_name = $1 ORDER BY id {lock}
        """,
        job.group,
    )
    return {
        RecordId(row["topic"], row["partition"], row["record_offset"]): KnownLetter(
            Status(row["status"]), row["value"], row["edited_value"]
        )
        for row in rows
    }


async def _applied(connection: Connection) -> int:
    applied: int = await connection.fetchval("SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offset")
    return applied


async def _switch(connection: Connection, job: Rebuild, generation: Generation, *, accept: bool) -> None:
    async with connection.transaction():
        await connection.execute(
            f"SELECT FROM {job.schema}.consumer_offset WHERE group_name = $1 FOR UPDATE", job.group
        )
        try:
            async with asyncio.timeout(SWITCH_SECONDS):
                while await _is_behind(connection, job):
                    await generation.go_on()
        except TimeoutError as error:
            raise NotCaughtUp(f"{job.group} was still behind after {SWITCH_SECONDS:.0f} s; nothing changed") from error
        await generation.finish()
        # Locked, so that nobody applies one to the old tables meanwhile.
        letters = await _known_letters(connection, job, "FOR UPDATE")
        lost = generation.lost(letters, accept=accept)
        for table in job.tables:
            await _replace(connection, job, table)
        await connection.execute(
            f"""
            INSERT INTO {job.schema}.consumer_offset AS stored SELECT * FROM {job.shadow}.consumer_offset
            ON CONFLICT (group_name, topic, partition) DO UPDATE
               SET next_offset = excluded.next_offset, anchor_event_id = excluded.anchor_event_id,
                   epoch = stored.epoch + 1, owner = excluded.owner, updated_at = now(),
                   max_event_time = excluded.max_event_time,
                   dead_letters_in_a_row = excluded.dead_letters_in_a_row
            """
        )
        await connection.execute(f"SET LOCAL search_path = {job.schema}")
        await dead_letter.bury(connection, job.group, lost)
        await dead_letter_retry.reopen(connection, job.group, lost)
        await dead_letter_retry.resolve(connection, job.group, generation.healed(letters), by="rebuild")
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
