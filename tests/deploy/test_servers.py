"""The embedded servers as tests and the local stack see them."""

import asyncpg
import redis.asyncio as redis
from aiokafka.admin import AIOKafkaAdminClient
from pymongo import AsyncMongoClient

from libs.events.settings import KafkaSettings
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
