"""The inventory service on the real servers; after every module the audits of its database must find nothing."""

from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from libs.chassis.database import Connection, Pool, acquired
from services.inventory import audits
from services.inventory.app import create_app
from services.inventory.settings import Settings
from tests.inventory.client import Inventory
from tests.stack import Database


@pytest.fixture(scope="module")
async def app(database: Database) -> AsyncIterator[FastAPI]:
    """The running application, without auth."""
    settings = Settings(database_url=SecretStr(database.url("inventory")), auth_mode="off", database_pool_size=20)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture(scope="module")
async def pool(app: FastAPI) -> AsyncIterator[Pool]:
    """The application's pool; afterwards, whatever the module did, no promise of the ledger is broken."""
    pool: Pool = app.state.pool
    yield pool
    assert not any((found := await audits.run(pool)).values()), found


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection with the grants of the service."""
    async with acquired(pool) as connection:
        yield connection


@pytest.fixture
async def owner(database: Database) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of the role that owns the tables: grants do not stop it, triggers and checks do."""
    connection = await asyncpg.connect(database.owner_url, server_settings={"search_path": "inventory"})
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def http(app: FastAPI, pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the application."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://inventory.test/api/v1") as client:
        yield client


@pytest.fixture
async def inventory(http: httpx.AsyncClient) -> Inventory:
    """The API, with a warehouse BERLIN-1 and a fresh product `inventory.sku`."""
    inventory = Inventory(http)
    await inventory.create_warehouse("BERLIN-1")
    await inventory.create_warehouse("PARIS-1")
    await inventory.create_product(inventory.sku)
    return inventory
