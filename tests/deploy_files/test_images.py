"""Every process from its built image, read-only and as nobody in particular: the demo's week comes out exact."""

import os
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from deploy.local.services import MAIL, PROCESSES, Process
from deploy.local.stack import Stack
from tests.deploy_files import images
from tests.deploy_files.images import Images
from tests.stack import ROOT
from tools.demo import feed, verification
from tools.demo.__main__ import ENVIRONMENT
from tools.demo.answers import read_answers
from tools.demo.catching_up import catch_up
from tools.demo.stockflow import connected
from tools.replay import api
from tools.replay.progress import shown_on
from tools.replay.run import Replay

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
NAMES = {
    service: f"localhost/stockflow-{service}:{VERSION}"
    for service in ("migrations", "inventory", "reorder", "pipeline", "analytics")
}
ALL_PROCESSES = tuple(dict.fromkeys((*PROCESSES, Process("inventory", "sweep"), MAIL)))
# Nobody listens there: mails wait, and the process that sends them lives.
SETTINGS = {**ENVIRONMENT, "SMTP_URL": "smtp://127.0.0.1:1"}
CONNECTIONS = 4


@pytest.fixture(scope="module")
def built() -> Iterator[Images]:
    if os.geteuid() != 0 or not images.exist(NAMES):
        pytest.skip("needs root, buildah and its images: make image BUILDER=buildah")
    # Not under pytest's own folder, which other users may not enter.
    with tempfile.TemporaryDirectory(prefix="stockflow-images-") as folder:
        Path(folder).chmod(0o755)
        with images.mounted(NAMES, Path(folder)) as built:
            yield built


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_the_demo_comes_out_exact_through_the_images(built: Images, tmp_path: Path) -> None:
    fed = feed.simulated()
    async with Stack(
        tmp_path / "stack", ports="auto", processes=ALL_PROCESSES, program=built.program, environment=SETTINGS
    ) as stack:
        _check_confinement(stack)
        _run_jobs(built, stack.env)
        with shown_on(Console()) as progress:
            inventory, reorder, key = (stack.env[name] for name in ("INVENTORY_URL", "REORDER_URL", "API_KEY"))
            async with api.connected(inventory, reorder, key, connections=CONNECTIONS) as client:
                outcome = await Replay(client, progress, connections=CONNECTIONS).post(fed.workload)
            async with connected(stack.env) as stockflow:
                await catch_up(stockflow, progress)
                answers = await read_answers(stockflow)
        assert set(stack.restarts.values()) <= {0}
    assert answers.reconciliation["exact"]
    assert answers.reconciliation["differences"] == []
    assert verification.against_oracle(fed.oracle, outcome, answers) == []


def _check_confinement(stack: Stack) -> None:
    """Each process runs as uid 10001 without a capability, on a root that nobody can write."""
    for process in ALL_PROCESSES:
        folder = Path("/proc") / str(stack.pids[process.name])
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        assert set(status["Uid"].split()) == {images.USER}, process.name
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, process.name
        assert status["NoNewPrivs"].strip() == "1", process.name
        roots = [line.split()[5] for line in (folder / "mountinfo").read_text().splitlines() if line.split()[4] == "/"]
        assert "ro" in roots[-1].split(","), process.name


def _run_jobs(built: Images, env: dict[str, str]) -> None:
    """The jobs of a release, again: they find everything done."""
    passwords = {"MIGRATIONS_DATABASE_URL": env["DATABASE_URL"]}
    assert built.run("migrations", "migrations", **passwords) == ""
    assert built.run("migrations", "migrations.wait", DATABASE_URL=env["DATABASE_URL_INVENTORY"]) == ""
    topics = built.run(
        "migrations", "libs.events.ensure_topics", KAFKA_BOOTSTRAP_SERVERS=env["KAFKA_BOOTSTRAP_SERVERS"]
    )
    assert topics == ""
