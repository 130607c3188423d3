"""`make chaos` in its short form, as a user runs it."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deploy.local.apache_kafka import Unavailable, fetch
from deploy.local.services import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not under pytest's own folder: started by root, PostgreSQL runs as somebody else, whom pytest locks out of there.
    with TemporaryDirectory(prefix="stockflow-chaos-") as folder:
        yield Path(folder)


@pytest.fixture
async def apache_kafka() -> None:
    """Apache Kafka's jars; skips where they cannot be had."""
    try:
        await fetch()
    except Unavailable as reason:
        pytest.skip(f"NO APACHE KAFKA: {reason}")


async def chaos(directory: Path, *options: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.chaos", "--short", "--directory", str(directory), *options),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_nothing_is_lost_or_counted_twice_whatever_is_killed(directory: Path) -> None:
    code, output = await chaos(directory)

    assert code == 0, output
    assert output.rstrip().endswith("invariants violated: 0")
    result = json.loads((directory / "result.json").read_text())
    assert result["kills"] >= 8
    assert result["control"]["wrong"] > 0


@pytest.mark.usefixtures("apache_kafka")
async def test_the_same_holds_on_apache_kafka_though_its_broker_is_killed(directory: Path) -> None:
    code, output = await chaos(directory, "--broker", "apache")

    assert code == 0, output
    assert json.loads((directory / "result.json").read_text())["trouble"]["SIGKILL"]["kafka"] >= 1
