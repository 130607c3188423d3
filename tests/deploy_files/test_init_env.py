"""`make init-env` writes secrets that the services accept, once, for nobody else to read."""

import json
import re
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("missing", ["MONGO_PASSWORD_PIPELINE", "AIRFLOW_JWT_SECRET", init_env.AIRFLOW_API_KEY])
def test_what_a_later_release_wants_besides_is_added(tmp_path: Path, missing: str) -> None:
    init_env.write(tmp_path)
    before = init_env.read(tmp_path)
    kept = {name: value for name, value in before.items() if name != missing} | {"SMTP_URL": "smtp://mail.example:25"}
    # As people leave it: a comment, no end of the last line.
    lines = ["# ours", *(f"{name}={value}" for name, value in kept.items())]
    (tmp_path / init_env.ENV_FILE).write_text("\n".join(lines))

    assert init_env.write(tmp_path) == [missing]
    after = init_env.read(tmp_path)
    assert {name: value for name, value in after.items() if name != missing} == kept
    assert after[missing] != before[missing]
    assert secrets.contents(after, "[]")["migrations-secrets"]
    for variable in (init_env.API_KEY, init_env.AIRFLOW_API_KEY):
        settings = ServiceSettings(
            database_url=SecretStr("postgresql://unused"), api_keys_file=tmp_path / init_env.API_KEYS_FILE
        )
        assert authenticator(settings)(after[variable]).scopes


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


def test_cluster_secrets_name_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    init_env.write(tmp_path)
    env_file = tmp_path / init_env.ENV_FILE
    env_file.write_text(re.sub(r"REDIS_PASSWORD=.*\n", "", env_file.read_text()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="REDIS_PASSWORD missing: `make init-env` adds it"):
        secrets.main()
    init_env.write(tmp_path)
    secrets.main()
    assert json.loads(capsys.readouterr().out)["kind"] == "List"
