"""The pipeline service on the real servers, with empty tables for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from libs.chassis.database import Connection, Pool, open_pool
from libs.events.settings import KafkaSettings
from services.pipeline.cache import Cache
from services.pipeline.settings import Settings
from tests.stack import Database

TABLES = (
    "stock_position",
    "sequence_gap",
    "hourly_movement",
    "daily_movement",
    "fact_retention",
    "product_version",
    "category_version",
    "warehouse_version",
    "external_update",
    "clock",
    "dirty_stock_item",
    "stock_metric",
    "metric_clock",
    "outbox",
    "consumer_offset",
    "dead_letter",
    "run",
    "job_schedule",
    "alert",
    "mail",
    "weekly_stock_item",
    "report",
)


@pytest.fixture(scope="module")
async def module_pool(database: Database) -> AsyncIterator[Pool]:
    """Connections of the service's own role."""
    async with await open_pool(database.url("pipeline"), size=4, application_name="test") as pool:
        yield pool


@pytest.fixture
async def pool(database: Database, module_pool: Pool) -> Pool:
    """Connections of the service's own role to empty tables."""
    await empty_tables(database)
    return module_pool


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """One of those connections."""
    connection: Connection
    async with pool.acquire() as connection:  # type: ignore[assignment]
        yield connection


@pytest.fixture
def settings(database: Database, kafka: KafkaSettings, redis_url: str, mongo_url: str, tmp_path: Path) -> Settings:
    """Settings of the service: no auth, the clock of the events, and no waiting."""
    return Settings(
        database_url=SecretStr(database.url("pipeline")),
        kafka=kafka,
        redis_url=SecretStr(redis_url),
        mongo_url=SecretStr(mongo_url),
        lake_url=str(tmp_path / "lake"),
        auth_mode="off",
        metrics_clock="event",
        metrics_interval_seconds=0,
        metrics_catch_up_seconds=0,
        metrics_batch_items=3,
        archive_flush_seconds=0.2,
        batch_heartbeat_seconds=0.05,
        batch_poll_seconds=0.05,
    )


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[Cache]:
    """The pipeline's keys in Redis."""
    cache = Cache(redis_url)
    yield cache
    await cache.close()


async def empty_tables(database: Database) -> None:
    """Empty every table of the schema."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute("SET search_path = pipeline;" + "".join(f"DELETE FROM {table};" for table in TABLES))
    finally:
        await connection.close()
