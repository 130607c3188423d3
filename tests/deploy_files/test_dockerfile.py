"""The Dockerfile holds what we promise of the images."""

import re
import subprocess

from tests.deploy_files.programs import program
from tests.stack import ROOT

PATH = ROOT / "deploy/docker/Dockerfile"
TEXT = PATH.read_text()


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([program("hadolint"), PATH], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_image_is_a_fixed_version() -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=docker\.io/library/python:3\.11\.\d+-slim-\w+$", TEXT, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE)) == {"${PYTHON_IMAGE}"}


def test_builders_without_heredocs_can_read_it() -> None:
    assert "<<" not in TEXT


def test_there_is_a_lock_for_every_image() -> None:
    [services] = re.findall(r"--build-arg SERVICE=(\S+)\.$", TEXT, re.MULTILINE)
    for service in services.split("|"):
        assert (ROOT / "requirements" / f"{service}.txt").exists()
