"""The embedded servers as tests and the local stack see them."""

import asyncpg
import pytest
import redis.asyncio as redis
from aiokafka.admin import AIOKafkaAdminClient
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from deploy.local.servers import Servers
from libs.events.settings import KafkaSettings
from services.analytics.documents import open_documents
from services.analytics.history import Documents
from tests.stack import Database


async def test_a_service_role_works_in_its_own_schema(database: Database) -> None:
    connection = await asyncpg.connect(database.url("inventory"))

    tables = await connection.fetchval("SELECT count(*) FROM outbox")

    assert tables == 0
    await connection.close()


async def test_the_present_version_of_each_schema_is_recorded_inside_it(database: Database) -> None:
    connection = await asyncpg.connect(database.owner_url)

    versions = [
        await connection.fetchval(f"SELECT count(*) FROM {schema}.alembic_version")
        for schema in ("inventory", "reorder", "pipeline")
    ]

    assert versions == [1, 1, 1]
    await connection.close()


async def test_topics_of_a_module_exist(kafka: KafkaSettings) -> None:
    admin = AIOKafkaAdminClient(**kafka.connection())
    await admin.start()

    topics = await admin.list_topics()

    assert kafka.topic("inventory-events") in topics
    await admin.close()


async def test_caches_and_documents_of_a_module_begin_empty(redis_url: str, mongo_url: str) -> None:
    documents: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(mongo_url)
    async with redis.from_url(redis_url) as cache, documents:
        assert await cache.dbsize() == 0
        assert await documents.get_default_database().list_collection_names() == []


async def test_the_pipeline_reads_what_analytics_publishes_and_writes_nothing(servers: Servers) -> None:
    async with (
        open_documents(servers.mongo_url(user="analytics"), "test") as store,
        AsyncMongoClient[dict[str, object]](servers.mongo_url(user="pipeline")) as client,
    ):
        await store.create_indexes_and_views()
        await store.write(Documents(transactions=[{"_id": "seen", "occurredAt": None}]))
        views = client.get_default_database()

        assert [document["_id"] async for document in views["transactions_v1"].find()] == ["seen"]
        for name in ("transactions", "transactions_v1"):
            with pytest.raises(OperationFailure, match="not authorized"):
                await views[name].insert_one({"_id": "forged"})


async def test_mongodb_serves_nobody_without_a_password(servers: Servers) -> None:
    place = servers.mongo_url().rpartition("@")[2].partition("?")[0]
    async with AsyncMongoClient[dict[str, object]](f"mongodb://{place}") as client:
        with pytest.raises(OperationFailure, match="requires authentication"):
            await client.get_default_database().list_collection_names()
