"""The AsyncAPI document: in step with the models, valid by a linter of its own trade, and served."""

import asyncio
import os
import shutil
from pathlib import Path

import httpx
import pytest
import yaml

from libs.events import asyncapi
from tests.test_authorization import create_apps

REDOCLY = "@redocly/cli@2.77.0"
ACCEPTED = "security-defined"
"""Who may read a topic is the cluster's business (KAFKA_SECURITY_PROTOCOL), so no operation names a scheme."""


def test_the_asyncapi_file_is_that_of_the_models() -> None:
    assert yaml.safe_load(asyncapi.FILE.read_text()) == asyncapi.document(), "run python -m libs.events.asyncapi"


@pytest.mark.parametrize("publisher", ["inventory", "reorder", "pipeline"])
async def test_every_publisher_serves_it_to_anybody(publisher: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text("[]")
    app = create_apps(api_keys_file=keys)[publisher]

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/asyncapi.json")

    assert (answer.status_code, answer.json()) == (200, asyncapi.document())


@pytest.mark.slow
async def test_a_linter_finds_nothing_in_it(tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("NO ASYNCAPI LINTER: npm is not installed")
    code, output = await _run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", REDOCLY, folder=tmp_path)
    if code:
        pytest.skip(f"NO ASYNCAPI LINTER: npm cannot fetch {REDOCLY}: {output[-500:]}")

    code, output = await _run("npx", "redocly", "lint", "--skip-rule", ACCEPTED, str(asyncapi.FILE), folder=tmp_path)

    assert code == 0, output
    assert "Your API description is valid" in output
    assert "warning" not in output.replace("Deprecation warning", "")


async def _run(*argv: str, folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=folder,
        env={**os.environ, "REDOCLY_TELEMETRY": "off"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()
