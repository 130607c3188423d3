"""A service below a gateway's prefix: it serves the prefix itself, so what it says of its addresses is true."""

from collections.abc import AsyncIterator

import httpx
import pytest

from libs.chassis.request import MAX_BODY_BYTES
from tests.chassis.conftest import open_settings
from tests.chassis.example import create_example

PREFIX = "/parcels"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = create_example(open_settings(root_path=PREFIX))
    app.state.body_limits = {"/api/v1/uploads": 2 * MAX_BODY_BYTES}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize("path", ["/healthz", "/docs", "/docs/static/swagger-ui.css", "/api/v1/things/a"])
async def test_a_path_answers_with_and_without_the_prefix(client: httpx.AsyncClient, prefix: str, path: str) -> None:
    response = await client.get(prefix + path)
    assert response.status_code == 200


async def test_the_openapi_document_names_the_prefix_it_is_read_under(client: httpx.AsyncClient) -> None:
    prefixed = (await client.get(f"{PREFIX}/openapi.json")).json()
    direct = (await client.get("/openapi.json")).json()
    assert prefixed.pop("servers") == [{"url": PREFIX}]
    assert prefixed == direct


async def test_allowed_methods_are_named_below_the_prefix(client: httpx.AsyncClient) -> None:
    response = await client.delete(f"{PREFIX}/api/v1/things/a")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, PUT"


@pytest.mark.parametrize("prefix", ["", PREFIX])
async def test_a_path_takes_bodies_of_its_own_limit_with_and_without_the_prefix(
    client: httpx.AsyncClient, prefix: str
) -> None:
    response = await client.post(f"{prefix}/api/v1/uploads", content=b"x" * (MAX_BODY_BYTES + 1))
    assert response.status_code == 200, response.text
