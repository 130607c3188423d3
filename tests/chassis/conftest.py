"""The example service, called in-process."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from deploy.local.servers import Servers
from libs.chassis import logging
from libs.chassis.database import Pool, open_pool
from libs.chassis.settings import ServiceSettings
from tests.chassis.example import SCHEMA, create_example


@pytest.fixture(autouse=True, scope="session")
def plain_logs() -> None:
    """Logs as a process writes them."""
    logging.configure("console", "warning", process="test")


def open_settings(**changes: object) -> ServiceSettings:
    """Settings of a service without auth."""
    defaults = {"database_url": SecretStr("postgresql://unused"), "auth_mode": "off", "log_level": "warning"}
    return ServiceSettings.model_validate(defaults | changes)


@pytest.fixture
def app() -> FastAPI:
    """The example service without auth."""
    return create_example(open_settings())


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the example service."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.fixture(scope="session")
async def superuser_url(servers: Servers) -> str:
    """An empty database for the tests of the chassis."""
    await servers.create_database("chassis")
    return servers.postgres_url("chassis")


@pytest.fixture
async def pool(superuser_url: str) -> AsyncIterator[Pool]:
    """A pool on a database that holds one empty table of parcels."""
    pool = await open_pool(superuser_url, size=4, application_name="test", lock_timeout_ms=300)
    await pool.execute(f"DROP TABLE IF EXISTS parcel; {SCHEMA}")
    yield pool
    await pool.close()


@pytest.fixture
def database_app(app: FastAPI, pool: Pool) -> FastAPI:
    """The example service with its database."""
    app.state.pool = pool
    return app


@pytest.fixture
async def database_client(database_app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the example service with its database."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(database_app), base_url="http://test") as client:
        yield client
