"""`python3 -m deploy.docker.init_env`: random secrets for Docker Compose, and two API keys.

One key may do everything; Airflow's may start runs of batch jobs and follow them.

What is there is kept, because the stores keep the passwords of their first start; a later release only adds what it
wants besides. Needs nothing but Python.
"""

import hashlib
import json
import secrets
import shlex
import sys
from pathlib import Path
from typing import Final

PASSWORDS: Final = (
    "POSTGRES_PASSWORD",
    "DATABASE_PASSWORD_OWNER",
    "DATABASE_PASSWORD_INVENTORY",
    "DATABASE_PASSWORD_REORDER",
    "DATABASE_PASSWORD_PIPELINE",
    "DATABASE_PASSWORD_ANALYTICS",
    "DATABASE_PASSWORD_BATCH",
    "MONGO_PASSWORD",
    "MONGO_PASSWORD_ANALYTICS",
    "MONGO_PASSWORD_PIPELINE",
    "REDIS_PASSWORD",
)
AIRFLOW_SECRETS: Final = ("AIRFLOW_DATABASE_PASSWORD", "AIRFLOW_PASSWORD", "AIRFLOW_SECRET_KEY", "AIRFLOW_JWT_SECRET")
"""Longer than passwords: Airflow signs with HS512, which wants a key of 64 bytes."""
API_KEY: Final = "API_KEY"
AIRFLOW_API_KEY: Final = "AIRFLOW_API_KEY"
_KEYS: Final = {API_KEY: ("admin", ["*"]), AIRFLOW_API_KEY: ("airflow", ["pipeline:read", "pipeline:run"])}
"""Variable with a key -> the caller's name and scopes."""
ENV_FILE: Final = Path(".env")
API_KEYS_FILE: Final = Path(".secrets/api-keys.json")


def write(directory: Path) -> list[str]:
    """Write the secrets that are missing below a directory, and return their names."""
    env_file, keys_file = directory / ENV_FILE, directory / API_KEYS_FILE
    known = read(directory)
    added = {name: secrets.token_urlsafe(24) for name in PASSWORDS if name not in known}
    added |= {name: secrets.token_urlsafe(64) for name in AIRFLOW_SECRETS if name not in known}
    entries = json.loads(keys_file.read_text()) if keys_file.exists() else []
    for variable, (name, scopes) in _KEYS.items():
        token = known.get(variable)
        if token is None:
            token = added[variable] = _new_token()
        if token.split("_")[1] not in {entry["id"] for entry in entries}:
            entries.append(_keys_file_entry(token, name, scopes))
    keys_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys_file.write_text(json.dumps(entries, indent=2))
    # The containers' user must read it. It holds a hash only, in a folder that nobody else may enter.
    keys_file.chmod(0o644)
    env_file.touch(mode=0o600)
    text = env_file.read_text()
    start = text if not text or text.endswith("\n") else f"{text}\n"
    env_file.write_text(start + "".join(f"{name}={value}\n" for name, value in added.items()))
    return list(added)


def read(directory: Path) -> dict[str, str]:
    """What the env file says, comments left out; empty when there is none."""
    env_file = directory / ENV_FILE
    lines = env_file.read_text().splitlines() if env_file.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def _new_token() -> str:
    """As `python -m libs.chassis.auth new` makes them."""
    return f"sfk_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def _keys_file_entry(token: str, name: str, scopes: list[str]) -> dict[str, object]:
    sha256 = hashlib.sha256(token.encode()).hexdigest()
    return {"id": token.split("_")[1], "name": name, "sha256": sha256, "scopes": scopes}


def main() -> None:
    """Write, and say where."""
    directory = Path.cwd()
    added = write(directory)
    sys.stdout.write(
        f"Added to {ENV_FILE}: {', '.join(added) or 'nothing, all is there'}. Your key:\n"
        f"    API_KEY={shlex.quote(read(directory)[API_KEY])}\n"
    )


if __name__ == "__main__":
    main()
