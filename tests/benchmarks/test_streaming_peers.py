"""What a program wrote is compared with what is on the topic."""

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from benchmarks.peers.sums import ADD_DAILY, TABLES, WRITE_POSITIONS, Sums
from benchmarks.streaming_cpu import sales
from benchmarks.streaming_peers import Entries
from deploy.local.servers import Servers

EVENTS, ITEMS = 500, 7


@pytest.fixture
async def connection(servers: Servers) -> AsyncIterator[asyncpg.Connection]:
    await servers.create_database("peers")
    connection = await asyncpg.connect(servers.postgres_url("peers"))
    await connection.execute(TABLES)
    yield connection
    await connection.close()
    await servers.drop_database("peers")


async def write(connection: asyncpg.Connection, events: list[dict[str, object]]) -> None:
    sums = Sums()
    for event in events:
        sums.add_json(event)
    await connection.execute(WRITE_POSITIONS, *sums.positions())
    await connection.execute(ADD_DAILY, *sums.daily())


async def test_sums_of_a_part_of_the_topic_are_exact_lost_or_counted_twice(connection: asyncpg.Connection) -> None:
    entries = Entries()
    events = [json.loads(message.value) for message in entries.noting(sales(EVENTS, ITEMS))]

    await write(connection, events[:300])
    exact = await entries.differences(connection)
    await write(connection, events[300:320])
    await write(connection, events[310:320])
    repeated = await entries.differences(connection)
    await write(connection, events[-ITEMS * 10 :])
    skipped, twice = await entries.differences(connection)

    assert exact == (0, 0)
    assert repeated == (0, 10)
    assert skipped > 0 < twice
