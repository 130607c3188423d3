"""The example service, called in-process."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from libs.chassis.settings import ServiceSettings
from tests.chassis.example import create_example


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
