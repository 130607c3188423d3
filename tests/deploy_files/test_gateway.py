"""The gateway of docker-compose.yml, run for real before a service that serves its prefix."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.services import answers
from deploy.local.supervisor import Program, Supervisor
from services.inventory.app import create_app
from services.inventory.settings import Settings
from tests.deploy_files.programs import program
from tests.stack import ROOT, Database

CADDYFILE = ROOT / "deploy/docker/Caddyfile"


@pytest.fixture(scope="module")
async def gateway(database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    caddy = program("caddyserver")
    folder = tmp_path_factory.mktemp("gateway")
    gateway_port, service_port = free_ports(2)
    async with asyncio.TaskGroup() as tasks:
        server = _service(database, service_port)
        tasks.create_task(server.serve())
        async with Supervisor() as supervisor:
            await supervisor.start(_caddy(caddy, folder, gateway_port, service_port))
            async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{gateway_port}") as client:
                yield client
        server.should_exit = True


def _service(database: Database, port: int) -> uvicorn.Server:
    settings = Settings.model_validate(
        {
            "database_url": database.url("inventory"),
            "root_path": "/inventory",
            "auth_mode": "off",
            "database_pool_size": 2,
        }
    )
    return uvicorn.Server(uvicorn.Config(create_app(settings), host=LOOPBACK, port=port, log_config=None, ws="none"))


def _caddy(caddy: Path, folder: Path, gateway_port: int, service_port: int) -> Program:
    configuration = CADDYFILE.read_text().replace(":8080 {", f"http://{LOOPBACK}:{gateway_port} {{")
    file = folder / "Caddyfile"
    file.write_text(configuration.replace("inventory-api:8000", f"{LOOPBACK}:{service_port}"))
    return Program(
        name="gateway",
        argv=(str(caddy), "run", "--config", str(file), "--adapter", "caddyfile"),
        log=folder / "gateway.log",
        ready=answers(gateway_port, "/healthz"),
        env={"PATH": os.environ["PATH"], "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)},
    )


async def test_an_address_of_the_openapi_document_leads_to_the_service(gateway: httpx.AsyncClient) -> None:
    document = (await gateway.get("/inventory/openapi.json")).json()
    [server] = document["servers"]
    response = await gateway.get(f"{server['url']}/api/v1/products", params={"limit": 1})
    assert response.status_code == 200


async def test_the_documentation_page_finds_its_files(gateway: httpx.AsyncClient) -> None:
    page = await gateway.get("/inventory/docs")
    style = await gateway.get(httpx.URL(str(page.url)).join("docs/static/swagger-ui.css"))
    assert (page.status_code, style.status_code) == (200, 200)


@pytest.mark.parametrize("path", ["/inventory/metrics", "/inventory/healthz", "/inventory/readyz", "/nothing", "/"])
async def test_the_inside_is_not_shown(gateway: httpx.AsyncClient, path: str) -> None:
    assert (await gateway.get(path)).status_code == 404


async def test_a_product_may_be_called_like_a_page_of_the_inside(gateway: httpx.AsyncClient) -> None:
    response = await gateway.get("/inventory/api/v1/products/METRICS")
    assert response.headers["content-type"] == "application/problem+json"


async def test_errors_of_the_service_come_through(gateway: httpx.AsyncClient) -> None:
    response = await gateway.get("/inventory/api/v1/products/NOT-THERE")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
