"""API keys: who may do what."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from libs.chassis import auth
from libs.chassis.auth import ApiKey, Principal, file_entry, new_key
from libs.chassis.problems import Problem
from tests.chassis.conftest import open_settings
from tests.chassis.example import create_example
from tests.chassis.test_problems import DOCUMENT, problem


@dataclass
class KeysFile:
    """A keys file that tests write to."""

    path: Path
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(self, *scopes: str, **changes: object) -> str:
        """The token of a new key."""
        token, key = new_key("tester", list(scopes))
        self.write([*self.entries, file_entry(key.model_copy(update=changes))])
        return token

    def write(self, entries: list[dict[str, Any]]) -> None:
        """Replace the file, with a modification time that differs from the one before."""
        self.entries = entries
        self.path.write_text(json.dumps(entries))
        os.utime(self.path, ns=(0, len(entries) * 10**9))


@pytest.fixture
def keys_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeysFile:
    """An empty keys file that is looked at on every request."""
    monkeypatch.setattr(auth, "RELOAD_SECONDS", 0.0)
    keys_file = KeysFile(tmp_path / "keys.json")
    keys_file.write([])
    return keys_file


@pytest.fixture
async def guarded(keys_file: KeysFile) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the example service with auth on."""
    app = create_example(open_settings(auth_mode="api-key", api_keys_file=keys_file.path))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def post(client: httpx.AsyncClient, token: str) -> httpx.Response:
    """A post that needs the scope example:write."""
    return await client.post("/api/v1/documents", json=DOCUMENT, headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("scope", ["example:write", "*"])
async def test_a_key_with_the_scope_may(guarded: httpx.AsyncClient, keys_file: KeysFile, scope: str) -> None:
    assert (await post(guarded, keys_file.add(scope))).status_code == 201


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic abc", "Bearer ", "sfk_1_2"])
async def test_no_key_is_401_even_with_a_bad_body(guarded: httpx.AsyncClient, header: str | None) -> None:
    headers = {"Content-Type": "application/json"} | ({} if header is None else {"Authorization": header})
    response = await guarded.post("/api/v1/documents", content=b"{", headers=headers)
    problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("change", [lambda t: t + "x", lambda t: t[:-1], lambda t: "sfk_0_x", lambda t: "x", str.upper])
async def test_a_wrong_key_is_401(guarded: httpx.AsyncClient, keys_file: KeysFile, change: Any) -> None:
    response = await post(guarded, change(keys_file.add("*")))
    problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_a_key_without_the_scope_is_403(guarded: httpx.AsyncClient, keys_file: KeysFile) -> None:
    response = await post(guarded, keys_file.add("example:read"))
    assert "example:write" in problem(response, 403, "insufficient-scope")["detail"]
    assert 'scope="example:write"' in response.headers["www-authenticate"]


@pytest.mark.parametrize("end", ["expires_at", "revoked_at"])
async def test_an_ended_key_is_401(guarded: httpx.AsyncClient, keys_file: KeysFile, end: str) -> None:
    ended = keys_file.add("*", **{end: datetime.now(UTC) - timedelta(seconds=1)})
    not_yet = keys_file.add("*", **{end: datetime.now(UTC) + timedelta(minutes=1)})
    problem(await post(guarded, ended), 401, "unauthorized")
    assert (await post(guarded, not_yet)).status_code == 201


async def test_a_changed_file_is_read_again(guarded: httpx.AsyncClient, keys_file: KeysFile) -> None:
    token = keys_file.add("*")
    assert (await post(guarded, token)).status_code == 201
    keys_file.write([])
    problem(await post(guarded, token), 401, "unauthorized")


async def test_a_file_that_became_unreadable_leaves_the_last_keys(
    guarded: httpx.AsyncClient, keys_file: KeysFile
) -> None:
    token = keys_file.add("*")
    assert (await post(guarded, token)).status_code == 201
    keys_file.path.write_text("[{]")
    assert (await post(guarded, token)).status_code == 201
    keys_file.path.unlink()
    assert (await post(guarded, token)).status_code == 201


@pytest.mark.parametrize("content", ["{", "{}", '[{"id": "a"}]'])
def test_a_bad_file_stops_the_start(keys_file: KeysFile, content: str) -> None:
    keys_file.path.write_text(content)
    with pytest.raises(ValidationError):
        create_example(open_settings(auth_mode="api-key", api_keys_file=keys_file.path))


def test_auth_without_a_keys_file_stops_the_start() -> None:
    with pytest.raises(ValueError, match="API_KEYS_FILE"):
        create_example(open_settings(auth_mode="api-key"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_an_open_api_is_refused_on_the_network(host: str) -> None:
    with pytest.raises(ValidationError, match="AUTH_MODE=off is refused"):
        open_settings(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_an_open_api_is_allowed_on_loopback(host: str) -> None:
    assert open_settings(host=host).auth_mode == "off"


def test_a_restricted_key_may_act_on_its_warehouses_only() -> None:
    restricted = Principal("tester", frozenset({"*"}), frozenset({"BERLIN-1"}))
    restricted.check_warehouses("BERLIN-1")
    with pytest.raises(Problem, match="PARIS-1"):
        restricted.check_warehouses("BERLIN-1", "PARIS-1")


def test_the_command_prints_a_key_and_its_entry() -> None:
    command = [sys.executable, "-m", "libs.chassis.auth", "new", "--name", "admin", "--scope", "*", "--warehouse", "B"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    token, entry = printed.split("\n", 1)
    key = ApiKey.model_validate_json(entry)
    assert (key.name, key.scopes, key.warehouses) == ("admin", frozenset("*"), frozenset("B"))
    assert token.startswith(f"sfk_{key.id}_")
    assert token not in entry
