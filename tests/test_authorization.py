"""Strangers get 401 from every operation of every service, before anything is done for them."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from libs.chassis.auth import file_entry, new_key
from libs.events.settings import KafkaSettings
from services.analytics import app as analytics
from services.analytics.settings import Settings as AnalyticsSettings
from services.inventory import app as inventory
from services.inventory.settings import Settings as InventorySettings
from services.pipeline import app as pipeline
from services.pipeline.settings import Settings as PipelineSettings
from services.reorder import app as reorder
from services.reorder.settings import Settings as ReorderSettings

SERVICES = ("inventory", "reorder", "pipeline", "analytics")
PUBLIC = ("/healthz", "/metrics", "/version", "/docs", "/openapi.json")


def create_apps(**settings: Any) -> dict[str, FastAPI]:
    """Every service, not started: it has no pool, so an operation that asks for a connection answers 500."""
    nowhere = SecretStr("unused://")
    settings = {"database_url": nowhere, "auth_mode": "api-key", **settings}
    kafka = KafkaSettings(bootstrap_servers="unused:1")
    return {
        "inventory": inventory.create_app(InventorySettings(**settings)),
        "reorder": reorder.create_app(ReorderSettings(**settings, kafka=kafka)),
        "pipeline": pipeline.create_app(
            PipelineSettings(**settings, kafka=kafka, redis_url=nowhere, mongo_url=nowhere, lake_url="unused")
        ),
        "analytics": analytics.create_app(AnalyticsSettings(**settings, kafka=kafka, mongo_url=nowhere)),
    }


@pytest.fixture
def powerless(tmp_path: Path) -> str:
    """The only key, which has no scope; its file is `keys.json`."""
    token, key = new_key("nobody", [])
    (tmp_path / "keys.json").write_text(json.dumps([file_entry(key)]))
    return token


@pytest.fixture
def app(tmp_path: Path, powerless: str, request: pytest.FixtureRequest) -> FastAPI:
    """The service that the test asks for by name."""
    return create_apps(api_keys_file=tmp_path / "keys.json")[request.param]


@pytest.mark.parametrize("app", SERVICES, indirect=True)
@pytest.mark.parametrize(("with_key", "status"), [(False, 401), (True, 403)])
async def test_every_operation_checks_the_key_first(app: FastAPI, powerless: str, with_key: bool, status: int) -> None:
    operations = [(method, path) for path, item in app.openapi()["paths"].items() for method in item]
    headers = {"Authorization": f"Bearer {powerless}"} if with_key else {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answers = {
            (method, path): (await client.request(method, f"{path}?unknown=1", headers=headers)).status_code
            for method, path in operations
        }
    assert answers == dict.fromkeys(operations, status)


@pytest.mark.parametrize("app", SERVICES, indirect=True)
async def test_supervisors_and_readers_of_the_documentation_need_no_key(app: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert {path: (await client.get(path)).status_code for path in PUBLIC} == dict.fromkeys(PUBLIC, 200)
