"""docker-compose.yml runs every process, locked down, with settings that exist."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.docker import init_env
from tests.deploy_files.cluster import settings_of
from tests.deploy_files.programs import program
from tests.stack import ROOT

FILE = ROOT / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("stockflow-")}


@pytest.mark.parametrize("name", OURS)
def test_a_process_gets_settings_that_its_code_reads(name: str) -> None:
    known = settings_of({"args": OURS[name]["command"]})
    given = OURS[name]["environment"].keys()
    # One environment serves all processes of a service; those without Kafka ignore its address.
    assert given - known.keys() <= {"KAFKA_BOOTSTRAP_SERVERS"}
    assert {setting for setting, is_required in known.items() if is_required} <= given


@pytest.mark.parametrize("name", OURS)
def test_a_process_of_ours_is_locked_down(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "ports" not in service
    assert "user" not in service, "the image says who"


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_limited(name: str) -> None:
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert not service.get("privileged")
    assert re.search(r":(v?\d+\.\d+|\$\{VERSION:-\d)", service["image"]), "a fixed version"


@pytest.mark.parametrize("name", SERVICES.keys() - OURS.keys() - {"airflow-init"})
def test_a_server_says_how_it_is(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


def test_ports_are_open_on_this_machine_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_airflow_is_the_version_of_the_lock_and_is_given_what_the_dags_read() -> None:
    locked = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements/airflow.txt").read_text(), re.MULTILINE)
    assert locked is not None
    airflow = {name: service for name, service in SERVICES.items() if "apache/airflow" in service["image"]}
    assert airflow.keys() == {"airflow-init", "airflow-api-server", "airflow-scheduler", "airflow-dag-processor"}
    for service in airflow.values():
        assert service["image"].partition(":")[2].startswith(f"{locked[1]}-")
        assert service["profiles"] == ["airflow"]
        mounted = dict(volume.split(":")[:2] for volume in service["volumes"])
        environment = service["environment"]
        assert mounted["./deploy/airflow/dags"] == environment["AIRFLOW__CORE__DAGS_FOLDER"]
        assert mounted["./services/pipeline/jobs/schedules.yaml"] == environment["STOCKFLOW_SCHEDULES"]
        assert json.loads(environment["AIRFLOW_CONN_STOCKFLOW_PIPELINE"])["host"] == "pipeline-api"


def test_compose_accepts_the_file(tmp_path: Path) -> None:
    compose = program("docker-compose")
    init_env.write(tmp_path)
    _config(compose, "--env-file", str(tmp_path / init_env.ENV_FILE))


def test_compose_names_a_missing_secret(tmp_path: Path) -> None:
    compose = program("docker-compose")
    init_env.write(tmp_path)
    env_file = tmp_path / init_env.ENV_FILE
    env_file.write_text(re.sub(r"REDIS_PASSWORD=.*\n", "", env_file.read_text()))
    with pytest.raises(subprocess.CalledProcessError) as refused:
        _config(compose, "--env-file", str(env_file))
    assert "run make init-env" in refused.value.stderr


def _config(compose: Path, *options: str) -> None:
    argv = [str(compose), *options, "--file", str(FILE), "--profile", "airflow", "config", "--quiet"]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    subprocess.run(argv, check=True, capture_output=True, text=True, env=environment)
