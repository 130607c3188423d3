"""One running stack for all end-to-end tests, and the week that was replayed into it while processes were killed."""

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from deploy.local.stack import Stack
from tests.end_to_end.week import WEEK_FILE, Week, replay_week
from tools.demo.stockflow import Stockflow, connected

ENVIRONMENT = {"METRICS_CLOCK": "event", "ARCHIVE_FLUSH_SECONDS": "2", "SCHEDULER": "external"}

START_AND_REPLAY_SECONDS = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests here: they need servers, and whichever runs first starts everything and replays the week."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("servers")
            item.add_marker(pytest.mark.timeout(START_AND_REPLAY_SECONDS))


@pytest.fixture(scope="package")
async def stack() -> AsyncIterator[Stack]:
    """Servers and every service process, ended with the last test here."""
    with TemporaryDirectory(prefix="stockflow-end-to-end-") as folder:
        async with Stack(Path(folder) / "stack", ports="auto", environment=ENVIRONMENT) as stack:
            yield stack


@pytest.fixture(scope="package")
async def week_or_none(stack: Stack) -> Week | None:
    """The replayed week, or None where its file is missing. Replayed before anything else moves stock."""
    return await replay_week(stack) if WEEK_FILE.exists() else None


@pytest.fixture
def week(week_or_none: Week | None) -> Week:
    """The replayed week; skips without its file."""
    if week_or_none is None:
        pytest.skip(f"NO REAL DATA: {WEEK_FILE} does not exist; set STOCKFLOW_DATA to the folder that holds it")
    return week_or_none


@pytest.fixture(scope="package")
async def stockflow(stack: Stack, week_or_none: Week | None) -> AsyncIterator[Stockflow]:
    """The services as a reader sees them, after the week."""
    async with connected(stack.env) as stockflow:
        yield stockflow


@pytest.fixture(scope="package")
async def inventory(stack: Stack, week_or_none: Week | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the inventory service, after the week. Without connection limit."""
    headers = {"Authorization": f"Bearer {stack.env['API_KEY']}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    url = f"{stack.env['INVENTORY_URL']}/api/v1/"
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=30) as client:
        yield client
