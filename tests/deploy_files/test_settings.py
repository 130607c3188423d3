"""What containers are told is what the code reads."""

from pathlib import Path

import pytest

from deploy.k8s.settings import PORT, env_files
from libs.chassis.settings import ServiceSettings
from tests.stack import ROOT

DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()


@pytest.mark.parametrize("path", env_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_config_maps_are_written_from_the_settings(path: Path) -> None:
    assert path.read_text() == env_files()[path], "run `make cluster-settings`"


def test_the_image_sets_settings_that_exist() -> None:
    [block] = [part for part in DOCKERFILE.split("\nENV ")[1:] if "HOST=" in part]
    names = {line.strip().partition("=")[0] for line in block.split("USER")[0].splitlines()}
    ours = {name for name in names if not name.startswith("PYTHON") and name != "PATH"}
    assert ours == {"HOST", "PORT", "OPS_PORT", "LOG_FORMAT", "VERSION"}
    assert {name.lower() for name in ours} <= ServiceSettings.model_fields.keys()


def test_the_image_is_asked_for_its_health_where_it_listens() -> None:
    assert f"EXPOSE {PORT}" in DOCKERFILE
    assert f" PORT={PORT} " in DOCKERFILE
    assert f" OPS_PORT={PORT} " in DOCKERFILE
