"""The commands that run once per release, before the processes."""

import asyncio
import os
import sys

import asyncpg
import pytest
from pydantic import SecretStr

from deploy.local.servers import Servers
from migrations import wait
from migrations.wait import WaitSettings
from tests.stack import ROOT, Database


@pytest.mark.parametrize("role", ["inventory", "reorder", "pipeline", "analytics", "batch"])
async def test_every_role_sees_that_the_database_is_ready(database: Database, role: str) -> None:
    await wait.wait(WaitSettings(database_url=SecretStr(database.url(role))))


async def test_a_schema_behind_its_head_is_waited_for(database: Database) -> None:
    connection = await asyncpg.connect(database.superuser_url)
    async with connection.transaction():
        await connection.execute("DELETE FROM reorder.alembic_version")
        assert await wait.outdated(connection) == ["reorder"]
        await connection.execute("INSERT INTO reorder.alembic_version VALUES ('of a later release')")
        assert await wait.outdated(connection) == []
    await connection.close()


async def test_waiting_ends(servers: Servers) -> None:
    missing = SecretStr(servers.postgres_url("no_such_database"))
    with pytest.raises(TimeoutError):
        await wait.wait(WaitSettings(database_url=missing, migrations_patience_seconds=0.1))


async def test_topics_are_created_once(servers: Servers) -> None:
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": "one-shot-",
    }
    first, second = [await _ensure_topics(environment) for _ in range(2)]
    assert sorted(first) == [
        f"created one-shot-{name}{suffix}"
        for name in ("analytics-events", "inventory-events", "reorder-events")
        for suffix in ("", ".dlq")
    ]
    assert second == []


async def _ensure_topics(environment: dict[str, str]) -> list[str]:
    command = (sys.executable, "-m", "libs.events.ensure_topics")
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().splitlines()
