"""The analytics service on the real servers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest
from pydantic import SecretStr
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from libs.events.settings import KafkaSettings
from services.analytics.app import create_app
from services.analytics.consumer import HistorySink
from services.analytics.documents import DocumentStore, open_documents
from services.analytics.settings import Settings
from tests.stack import Database


@pytest.fixture
async def mongo(mongo_url: str) -> AsyncIterator[AsyncDatabase[dict[str, object]]]:
    """The service's collections, empty, seen past the service."""
    async with AsyncMongoClient[dict[str, object]](mongo_url) as client:
        database = client.get_default_database()
        for name in await database.list_collection_names(filter={"type": "collection"}):
            await database[name].delete_many({})
        yield database


@pytest.fixture
async def store(mongo_url: str, mongo: AsyncDatabase[dict[str, object]]) -> AsyncIterator[DocumentStore]:
    """The service's own access to its empty collections."""
    async with open_documents(mongo_url, "test") as store:
        await store.create_indexes_and_views()
        yield store


@pytest.fixture
def sink(store: DocumentStore, kafka: KafkaSettings) -> HistorySink:
    """The sink of the consumer."""
    return HistorySink(store, kafka, owner="test")


@pytest.fixture
async def pipeline(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection that may write the pipeline's tables, which start empty."""
    connection = await asyncpg.connect(database.superuser_url)
    await connection.execute(
        "TRUNCATE pipeline.daily_movement, pipeline.stock_metric, pipeline.stock_position, pipeline.daily_metric"
    )
    yield connection
    await connection.close()


@pytest.fixture
def settings(database: Database, kafka: KafkaSettings, redis_url: str, mongo_url: str) -> Settings:
    """Settings of the service without auth."""
    return Settings(
        database_url=SecretStr(database.url("analytics")),
        mongo_url=SecretStr(mongo_url),
        redis_url=SecretStr(redis_url),
        kafka=kafka,
        auth_mode="off",
    )


@pytest.fixture
async def client(
    settings: Settings, store: DocumentStore, pipeline: asyncpg.Connection
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running API."""
    async with running(settings) as client:
        yield client


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API with these settings, which runs within the block."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test/api/v1") as client,
    ):
        yield client
