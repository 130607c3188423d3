"""The running API keeps what its OpenAPI document says, whatever is sent to it: schemathesis, all checks."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.services import Process, program
from deploy.local.supervisor import Supervisor
from libs.chassis.auth import file_entry, new_key
from tests.inventory.client import Inventory, a_document, a_line
from tests.stack import Database

# What no document can tell is whether stock, cursors, keys and ids of others allow a request that it allows. And a sku
# may contain slashes: another method of `/products/{sku}/archive` is asked of the product "{sku}/archive", rightly.
LEFT_OUT = "positive_data_acceptance,unsupported_method,allow_header_conformance"


@dataclass(frozen=True, slots=True)
class Served:
    """The API process, which wants a key."""

    url: str
    token: str
    log: Path


@pytest.fixture
async def served(database: Database, tmp_path: Path) -> AsyncIterator[Served]:
    """The API with some stock in it."""
    token, key = new_key("schemathesis", ["*"])
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([file_entry(key)]))
    [port] = free_ports(1)
    environment = {
        "DATABASE_URL": database.url("inventory"),
        "API_KEYS_FILE": str(keys),
        "LOG_LEVEL": "error",
        "LOG_FORMAT": "json",
    }
    url = f"http://{LOOPBACK}:{port}"
    async with Supervisor() as supervisor:
        await supervisor.start(program(Process("inventory", "api"), port, environment, tmp_path))
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers) as http:
            inventory = Inventory(http)
            await inventory.create_warehouse("BERLIN-1")
            await inventory.create_product("LAPTOP-001")
            await inventory.post(a_document("RECEIPT", a_line("LAPTOP-001", 1_000_000)))
        yield Served(url, token, tmp_path / "inventory-api.log")


async def schemathesis(served: Served, folder: Path, *options: str) -> tuple[int, str]:
    """Exit code and output of a run of all checks but those left out, links between operations included."""
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("st")), "run", f"{served.url}/openapi.json"),
        *("--checks", "all", "--exclude-checks", LEFT_OUT, "--request-timeout", "60"),
        *("--header", f"Authorization: Bearer {served.token}", "--no-color", "--seed", "1"),
        *("--generation-database", "none", "--suppress-health-check", "all", "--continue-on-failure", *options),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_no_request_is_answered_otherwise_than_documented(served: Served, tmp_path: Path) -> None:
    code, output = await schemathesis(served, tmp_path, "--max-examples", "50")

    assert code == 0, output
    assert not served.log.read_text(), "the service has logged errors"
