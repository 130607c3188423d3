"""Ids of any printable characters, as they arrive through a real HTTP server: each addresses exactly itself."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from deploy.local.ports import free_ports
from libs.chassis.database import Pool

IDS = [
    "W/1",
    "P/archive",
    "A/B/thresholds",
    "/",
    "a//b/",
    "100%",
    "%2F",
    "%252F",
    "a:b",
    "what?",
    "#1",
    ".",
    "..",
    "../x",
    "a+b c",
    "é☃📦",
    "a;b=c,d&e",
]


@pytest.fixture(scope="module")
async def served(app: FastAPI, pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application behind uvicorn."""
    port = free_ports(1)[0]
    server = uvicorn.Server(uvicorn.Config(app, port=port, lifespan="off", log_config=None, http="httptools"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1") as client:
        yield client
    server.should_exit = True
    await serving


@pytest.mark.parametrize("name", IDS)
async def test_an_encoded_id_addresses_itself(served: httpx.AsyncClient, name: str) -> None:
    # HTTP clients resolve plain dots themselves.
    encoded = quote(name, safe="").replace(".", "%2E")
    for resource, field in {"products": "sku", "warehouses": "warehouseId", "categories": "categoryId"}.items():
        created = await served.post(f"/{resource}", json={field: name, "name": "x"})
        assert created.status_code == 201, created.text
        found = await served.get(f"/{resource}/{encoded}")
        assert (found.status_code, found.json().get(field)) == (200, name), found.text
    level = (await served.get(f"/stock-levels/{encoded}/{encoded}")).json()
    assert (level["warehouseId"], level["sku"]) == (name, name)
    changed = await served.patch(
        f"/stock-levels/{encoded}/{encoded}/thresholds",
        json={"reorderPoint": 3, "reorderQuantity": 4},
        headers={"If-Match": "*"},
    )
    assert (changed.json()["warehouseId"], changed.json()["sku"]) == (name, name), changed.text
    archived = await served.post(f"/products/{encoded}/archive")
    assert (archived.json()["sku"], archived.json()["status"]) == (name, "archived")


async def test_an_encoded_slash_never_ends_an_id(served: httpx.AsyncClient) -> None:
    for sku in ("P", "P/archive/x"):
        assert (await served.post("/products", json={"sku": sku, "name": sku})).status_code == 201
    assert (await served.post("/products/P%2Farchive")).status_code == 405
    assert (await served.get("/products/P")).json()["status"] == "active"
    assert (await served.get("/products/P%2Farchive%2fx")).json()["sku"] == "P/archive/x"


async def test_a_sku_may_be_sent_with_plain_slashes(served: httpx.AsyncClient) -> None:
    await served.post("/products", json={"sku": "box/red/é", "name": "x"})
    await served.post("/warehouses", json={"warehouseId": "north", "name": "x"})
    assert (await served.get("/products/box/red/é")).json()["sku"] == "box/red/é"
    assert (await served.get("/stock-levels/north/box/red%2F%C3%A9")).json()["sku"] == "box/red/é"
