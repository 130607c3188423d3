"""The reorder service on the real servers."""

from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from libs.chassis.database import Pool, open_pool
from libs.events.settings import KafkaSettings
from services.reorder.app import create_app
from services.reorder.settings import Settings
from tests.stack import Database

CATALOGUE = """
    INSERT INTO inventory.product (sku, name, attributes, request_hash)
    SELECT sku, sku, '{}', '' FROM unnest(ARRAY['WIDGET', 'GADGET', 'a/b c']) AS product(sku) ON CONFLICT DO NOTHING;
    INSERT INTO inventory.warehouse (warehouse_id, name, request_hash)
    SELECT id, id, '' FROM unnest(ARRAY['BERLIN', 'United Kingdom', 'W/1']) AS warehouse(id) ON CONFLICT DO NOTHING;
"""


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """The service's own role, on empty tables and a catalogue of three products in two warehouses."""
    connection = await asyncpg.connect(database.superuser_url)
    await connection.execute(CATALOGUE)
    await connection.execute(
        "TRUNCATE reorder.recommendation, reorder.inventory_position, reorder.reorder_policy, reorder.outbox,"
        " reorder.consumer_offset, reorder.dead_letter"
    )
    await connection.execute("DELETE FROM inventory.stock_level")
    await connection.close()
    async with await open_pool(database.url("reorder"), size=4, application_name="test") as pool:
        yield pool


@pytest.fixture
def settings(database: Database, kafka: KafkaSettings) -> Settings:
    """Settings of the service without auth."""
    return Settings(database_url=SecretStr(database.url("reorder")), kafka=kafka, auth_mode="off")


@pytest.fixture
async def client(settings: Settings, pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running API."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test/api/v1") as client,
    ):
        yield client
