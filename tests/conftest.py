"""Fixtures that every test may ask for: the real servers, started once, with data of the module's own."""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis.asyncio as redis
from pymongo import AsyncMongoClient

from deploy.local.servers import Servers
from libs.events.settings import KafkaSettings
from libs.events.topics import ensure_topics
from tests.stack import TEMPLATE, Database, migrate

_numbers = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need the servers, so that `make check` can leave them out."""
    for item in items:
        if isinstance(item, pytest.Function) and "servers" in item.fixturenames:
            item.add_marker("servers")


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[Servers]:
    """PostgreSQL, Valkey, MongoDB and Kafka for the whole run; they flush nothing to disk."""
    # Not under pytest's own folder: started by root, PostgreSQL runs as somebody else, whom pytest locks out of there.
    with TemporaryDirectory(prefix="stockflow-tests-") as folder:
        async with Servers(Path(folder), durable=False) as servers:
            yield servers


@pytest.fixture(scope="session")
async def template_database(servers: Servers) -> str:
    """The database that the tests' databases are copied from: migrated, and empty."""
    await servers.create_database(TEMPLATE)
    await migrate(servers.postgres_url(TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="module")
async def database(servers: Servers, template_database: str) -> AsyncIterator[Database]:
    """A migrated database of the module's own."""
    database = Database(servers, f"test_{next(_numbers)}")
    await servers.create_database(database.name, template=template_database)
    yield database
    await servers.drop_database(database.name)


@pytest.fixture(scope="module")
async def kafka(servers: Servers) -> KafkaSettings:
    """Kafka with all topics, under a prefix of the module's own."""
    settings = KafkaSettings(
        bootstrap_servers=servers.kafka_bootstrap_servers,
        topic_prefix=f"test-{next(_numbers)}-",
        partitions=4,
        fetch_pause_ms=20,
    )
    await ensure_topics(settings)
    return settings


@pytest.fixture(scope="module")
async def redis_url(servers: Servers) -> str:
    """An empty Redis database. There are 16: a module finds what the sixteenth module before it wrote cleared."""
    url = servers.redis_url(next(_numbers) % 16)
    async with redis.from_url(url) as client:
        await client.flushdb()
    return url


@pytest.fixture(scope="module")
async def mongo_url(servers: Servers) -> AsyncIterator[str]:
    """A MongoDB database of the module's own."""
    name = f"test_{next(_numbers)}"
    yield servers.mongo_url(name)
    client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(servers.mongo_url())
    async with client:
        await client.drop_database(name)


@pytest.fixture(scope="module")
def lake_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An empty folder for the lake."""
    return str(tmp_path_factory.mktemp("lake"))
