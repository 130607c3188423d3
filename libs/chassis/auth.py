"""API keys: who calls, and what they may do.

A key is `sfk_<id>_<secret>`. The keys file holds SHA-256 sums only. `python -m libs.chassis.auth new` makes a key.
"""

import argparse
import hashlib
import hmac
import json
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from fastapi import Security
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import HTTPConnection, Request

from libs.chassis.problems import Problem
from libs.chassis.settings import ServiceSettings

ALL_SCOPES = "*"
RELOAD_SECONDS = 1.0
_NO_KEY_SHA256 = "0" * 64

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: the key's name, its scopes, and the warehouses it is restricted to (None = all)."""

    name: str
    scopes: frozenset[str]
    warehouses: frozenset[str] | None

    def may(self, scope: str) -> bool:
        """Whether the key carries the scope."""
        return scope in self.scopes or ALL_SCOPES in self.scopes

    def check_warehouses(self, *warehouse_ids: str) -> None:
        """Raise a `Problem` 403 `warehouse-forbidden` unless the key may act on all of these warehouses."""
        if self.warehouses is None:
            return
        if refused := sorted(set(warehouse_ids) - self.warehouses):
            raise Problem(403, "warehouse-forbidden", f"The key may not act on {', '.join(refused)}.")


class ApiKey(BaseModel):
    """One entry of the keys file."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[0-9a-z]+$")
    name: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: frozenset[str]
    warehouses: frozenset[str] | None = None
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None

    def is_valid_at(self, now: datetime) -> bool:
        """Whether the key is neither expired nor revoked."""
        expired = self.expires_at is not None and self.expires_at <= now
        revoked = self.revoked_at is not None and self.revoked_at <= now
        return not (expired or revoked)


_KEYS_FILE = TypeAdapter(list[ApiKey])


class ApiKeys:
    """The keys of the keys file, read again when it changes. Raises when the file is bad at the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._modified_ns = path.stat().st_mtime_ns
        self._by_id = _read_keys(path)
        self._looked_at = time.monotonic()

    def principal(self, token: str) -> Principal | None:
        """Who owns the token, or None if nobody or no longer."""
        self._reload_if_changed()
        digest = hashlib.sha256(token.encode()).hexdigest()
        key = self._by_id.get(_key_id(token))
        matches = hmac.compare_digest(digest, key.sha256 if key else _NO_KEY_SHA256)
        if key is None or not matches or not key.is_valid_at(datetime.now(UTC)):
            return None
        return Principal(key.name, key.scopes, key.warehouses)

    def _reload_if_changed(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < RELOAD_SECONDS:
            return
        self._looked_at = now
        try:
            modified_ns = self._path.stat().st_mtime_ns
            if modified_ns != self._modified_ns:
                self._by_id = _read_keys(self._path)
                self._modified_ns = modified_ns
                log.info("api_keys_reloaded", keys=len(self._by_id))
        except (OSError, ValidationError) as error:
            log.error("api_keys_unreadable", path=str(self._path), error=type(error).__name__)


Authenticator = Callable[[str | None], Principal]
"""Bearer token (None if absent) -> principal. Raises a `Problem` 401."""


def authenticator(settings: ServiceSettings) -> Authenticator:
    """What `AUTH_MODE` asks for: keys from the file, or everybody as `anonymous` with all scopes."""
    if settings.auth_mode == "off":
        anonymous = Principal("anonymous", frozenset({ALL_SCOPES}), None)
        return lambda _token: anonymous
    if settings.api_keys_file is None:
        raise ValueError("AUTH_MODE=api-key needs API_KEYS_FILE")
    keys = ApiKeys(settings.api_keys_file)

    def authenticate(token: str | None) -> Principal:
        if token is None:
            raise _unauthorized("Send an API key as Authorization: Bearer <key>.", "Bearer")
        principal = keys.principal(token)
        if principal is None:
            raise _unauthorized("The API key is unknown, expired or revoked.", 'Bearer error="invalid_token"')
        return principal

    return authenticate


class _Caller(HTTPBearer):
    """The bearer scheme of the API document; as a dependency, who calls."""

    async def __call__(self, request: HTTPConnection) -> Principal:  # type: ignore[override]
        """What `authorize` has found."""
        principal: Principal = request.state.principal
        return principal


CALLER = _Caller(scheme_name="bearer", description="API key `sfk_<id>_<secret>`.")


def require(scope: str) -> Any:
    """In `Annotated[Principal, require(scope)]`: who calls an operation that needs this scope."""
    return Security(CALLER, scopes=[scope])


def needed_scopes(dependant: Dependant) -> frozenset[str]:
    """The scopes that an operation with these dependencies needs; none for one that everybody may call."""
    below = (needed_scopes(dependency) for dependency in dependant.dependencies)
    return frozenset(dependant.own_oauth_scopes or ()).union(*below)


def authorize(request: Request, needed: frozenset[str]) -> None:
    """Raise a `Problem` 401 without a valid key, 403 if the key lacks one of the scopes.

    Comes before all else of an operation, so that nothing is read, checked or opened for strangers.
    """
    if not needed:
        return
    scheme, token = get_authorization_scheme_param(request.headers.get("Authorization"))
    authenticate: Authenticator = request.app.state.authenticate
    principal = authenticate(token if scheme.lower() == "bearer" and token else None)
    for scope in sorted(needed):
        if not principal.may(scope):
            raise Problem(
                403,
                "insufficient-scope",
                f"This needs the scope {scope}.",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            )
    request.state.principal = principal


def new_key(
    name: str, scopes: list[str], warehouses: list[str] | None = None, expires_at: datetime | None = None
) -> tuple[str, ApiKey]:
    """A fresh key, to be shown once, and its entry for the keys file."""
    key_id = secrets.token_hex(4)
    token = f"sfk_{key_id}_{secrets.token_urlsafe(32)}"
    return token, ApiKey(
        id=key_id,
        name=name,
        sha256=hashlib.sha256(token.encode()).hexdigest(),
        scopes=frozenset(scopes),
        warehouses=None if warehouses is None else frozenset(warehouses),
        expires_at=expires_at,
    )


def file_entry(key: ApiKey) -> dict[str, object]:
    """The key as one object of the JSON list in the keys file."""
    return key.model_dump(mode="json", by_alias=True)


def _key_id(token: str) -> str:
    prefix, _, rest = token.partition("_")
    return rest.partition("_")[0] if prefix == "sfk" else ""


def _read_keys(path: Path) -> dict[str, ApiKey]:
    return {key.id: key for key in _KEYS_FILE.validate_json(path.read_bytes())}


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m libs.chassis.auth", description="Make API keys.")
    commands = parser.add_subparsers(required=True)
    new = commands.add_parser("new", help="print a new key and its entry for the keys file")
    new.add_argument("--name", required=True, help="who uses the key; recorded as the actor of what it does")
    new.add_argument("--scope", action="append", required=True, help="repeat for several; * = all")
    new.add_argument("--warehouse", action="append", help="restrict to this warehouse; repeat for several")
    new.add_argument("--expires-at", type=datetime.fromisoformat, help="instant such as 2027-01-01T00:00:00Z")
    arguments = parser.parse_args()
    token, key = new_key(arguments.name, arguments.scope, arguments.warehouse, arguments.expires_at)
    sys.stdout.write(f"{token}\n{json.dumps(file_entry(key), indent=2)}\n")


if __name__ == "__main__":
    _main()
