"""Airflow, and what its tasks talk to: the pipeline's API and batch process, on the real servers."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.services import Process, program
from deploy.local.supervisor import Supervisor
from libs.chassis.auth import file_entry, new_key
from libs.events.settings import KafkaSettings
from services.pipeline.jobs.job import SCHEDULES
from tests.airflow.environment import DAGS, DATABASE, INSTALLED, Airflow, at_home
from tests.stack import Database


@pytest.fixture(scope="module")
def schedules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`schedules.yaml`, but a failed task is tried again at once."""
    definitions = yaml.safe_load(SCHEDULES.read_text())
    for job in definitions["jobs"]:
        job["retry_delay_seconds"] = 1
    path = tmp_path_factory.mktemp("schedules") / "schedules.yaml"
    path.write_text(yaml.safe_dump(definitions))
    return path


@pytest.fixture(scope="module")
def variables(
    database: Database, kafka: KafkaSettings, redis_url: str, mongo_url: str, lake_url: str
) -> dict[str, str]:
    """The environment of every pipeline process."""
    return {
        "DATABASE_URL": database.url("pipeline"),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "REDIS_URL": redis_url,
        "MONGO_URL": mongo_url,
        "LAKE_URL": lake_url,
        "BATCH_POLL_SECONDS": "0.1",
    }


@pytest.fixture(scope="module")
async def pipeline(
    airflow: Airflow, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[int, str]]:
    """The pipeline's API and batch process: the API's port, and a key that may start and follow runs."""
    folder = tmp_path_factory.mktemp("pipeline")
    token, key = new_key("airflow", ["pipeline:read", "pipeline:run"])
    keys = folder / "api-keys.json"
    keys.write_text(json.dumps([file_entry(key)]))
    api_port, ops_port = free_ports(2)
    async with Supervisor() as supervisor:
        await supervisor.start(
            program(Process("pipeline", "api"), api_port, variables | {"API_KEYS_FILE": str(keys)}, folder),
            program(Process("pipeline", "batch"), ops_port, variables, folder),
        )
        yield api_port, token


@pytest.fixture(scope="module")
def airflow(schedules: Path, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """An Airflow that knows the DAGs, and nobody to talk to."""
    if not (INSTALLED / "stamp").exists():
        pytest.skip("NOT CHECKED: Airflow is missing, `make setup-airflow` installs it")
    home = tmp_path_factory.mktemp("airflow")
    shutil.copy(INSTALLED / "home" / DATABASE, home)
    return Airflow(
        home,
        {
            **at_home(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "STOCKFLOW_SCHEDULES": str(schedules),
        },
    )


@pytest.fixture(scope="module")
def connected_airflow(airflow: Airflow, pipeline: tuple[int, str]) -> Airflow:
    """An Airflow that reaches the pipeline."""
    port, token = pipeline
    connection = {"conn_type": "http", "host": LOOPBACK, "port": port, "password": token}
    return Airflow(airflow.home, {**airflow.environment, "AIRFLOW_CONN_STOCKFLOW_PIPELINE": json.dumps(connection)})
