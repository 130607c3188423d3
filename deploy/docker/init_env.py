"""`python3 -m deploy.docker.init_env`: random secrets for Docker Compose, and two API keys.

One key may do everything; Airflow's may start runs of batch jobs and follow them.

Written once: the stores keep the passwords of their first start. Needs nothing but Python.
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
ENV_FILE: Final = Path(".env")
API_KEYS_FILE: Final = Path(".secrets/api-keys.json")


def write(directory: Path) -> bool:
    """Write the secrets below a directory; False when they are there already."""
    env_file = directory / ENV_FILE
    if env_file.exists():
        return False
    admin_id, admin_token = _new_api_key()
    airflow_id, airflow_token = _new_api_key()
    entries = [
        _keys_file_entry(admin_id, admin_token, "admin", ["*"]),
        _keys_file_entry(airflow_id, airflow_token, "airflow", ["pipeline:read", "pipeline:run"]),
    ]
    values = {name: secrets.token_urlsafe(24) for name in PASSWORDS}
    values |= {name: secrets.token_urlsafe(64) for name in AIRFLOW_SECRETS}
    values |= {API_KEY: admin_token, AIRFLOW_API_KEY: airflow_token}
    keys_file = directory / API_KEYS_FILE
    keys_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys_file.write_text(json.dumps(entries, indent=2))
    # The containers' user must read it. It holds a hash only, in a folder that nobody else may enter.
    keys_file.chmod(0o644)
    env_file.touch(mode=0o600)
    env_file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return True


def read(directory: Path) -> dict[str, str]:
    """What `write` wrote into the env file."""
    lines = (directory / ENV_FILE).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line)


def _new_api_key() -> tuple[str, str]:
    """Id and token, as `python -m libs.chassis.auth new` makes them."""
    key_id = secrets.token_hex(4)
    return key_id, f"sfk_{key_id}_{secrets.token_urlsafe(32)}"


def _keys_file_entry(key_id: str, token: str, name: str, scopes: list[str]) -> dict[str, object]:
    sha256 = hashlib.sha256(token.encode()).hexdigest()
    return {"id": key_id, "name": name, "sha256": sha256, "scopes": scopes}


def main() -> None:
    """Write, and say where."""
    directory = Path.cwd()
    written = write(directory)
    sys.stdout.write(
        f"{ENV_FILE} {'written' if written else 'is there already, and kept'}. Your key:\n"
        f"    API_KEY={shlex.quote(read(directory)[API_KEY])}\n"
    )


if __name__ == "__main__":
    main()
