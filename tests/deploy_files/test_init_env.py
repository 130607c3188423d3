"""`make init-env` writes secrets that the services accept, once, for nobody else to read."""

from pathlib import Path

from pydantic import SecretStr

from deploy.docker import init_env
from deploy.k8s import secrets
from libs.chassis.auth import ALL_SCOPES, authenticator
from libs.chassis.settings import ServiceSettings


def test_the_services_accept_the_key(tmp_path: Path) -> None:
    init_env.write(tmp_path)
    settings = ServiceSettings(
        database_url=SecretStr("postgresql://unused"), api_keys_file=tmp_path / init_env.API_KEYS_FILE
    )
    principal = authenticator(settings)(init_env.read(tmp_path)[init_env.API_KEY])
    assert (principal.name, principal.scopes) == ("admin", frozenset({ALL_SCOPES}))


def test_airflow_may_start_and_follow_runs_and_nothing_else(tmp_path: Path) -> None:
    init_env.write(tmp_path)
    settings = ServiceSettings(
        database_url=SecretStr("postgresql://unused"), api_keys_file=tmp_path / init_env.API_KEYS_FILE
    )
    principal = authenticator(settings)(init_env.read(tmp_path)[init_env.AIRFLOW_API_KEY])
    assert (principal.name, principal.scopes) == ("airflow", frozenset({"pipeline:read", "pipeline:run"}))


def test_airflow_signs_with_a_key_that_is_long_enough(tmp_path: Path) -> None:
    init_env.write(tmp_path)
    assert len(init_env.read(tmp_path)["AIRFLOW_JWT_SECRET"].encode()) >= 64


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    assert init_env.write(tmp_path)
    before = init_env.read(tmp_path)
    assert not init_env.write(tmp_path)
    assert init_env.read(tmp_path) == before


def test_nobody_else_may_read_the_secrets(tmp_path: Path) -> None:
    init_env.write(tmp_path)
    assert (tmp_path / init_env.ENV_FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / init_env.API_KEYS_FILE).parent.stat().st_mode & 0o777 == 0o700


def test_no_two_passwords_are_the_same(tmp_path: Path) -> None:
    init_env.write(tmp_path)
    values = init_env.read(tmp_path)
    assert len(set(values.values())) == len(values) == len(init_env.PASSWORDS + init_env.AIRFLOW_SECRETS) + 2


def test_cluster_secrets_hold_the_same_passwords(tmp_path: Path) -> None:
    init_env.write(tmp_path)
    values = init_env.read(tmp_path)
    written = secrets.contents(values, "[]")
    password = values["DATABASE_PASSWORD_INVENTORY"]
    assert written["inventory-secrets"]["DATABASE_URL"] == (
        f"postgresql://stockflow_inventory:{password}@postgres:5432/stockflow"
    )
    assert written["migrations-secrets"]["DATABASE_PASSWORD_INVENTORY"] == password
