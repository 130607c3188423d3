"""`python3 -m deploy.k8s.secrets`: the Secrets of the dev overlay as JSON for `kubectl apply -f -`.

Made of the values that `make init-env` wrote. Needs nothing but Python.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.docker.init_env import API_KEYS_FILE, PASSWORDS, read

_ROLES = ("OWNER", "INVENTORY", "REORDER", "PIPELINE", "ANALYTICS", "BATCH")


def contents(values: Mapping[str, str], api_keys: str) -> dict[str, dict[str, str]]:
    """Name of the Secret -> key -> value, for the stores of the dev overlay."""
    redis = f"redis://:{values['REDIS_PASSWORD']}@redis:6379/0"

    def service(name: str) -> dict[str, str]:
        return {"DATABASE_URL": _postgres(f"stockflow_{name}", values[f"DATABASE_PASSWORD_{name.upper()}"])}

    def with_stores(name: str) -> dict[str, str]:
        password = values[f"MONGO_PASSWORD_{name.upper()}"]
        return service(name) | {"MONGO_URL": f"mongodb://{name}:{password}@mongo:27017/analytics", "REDIS_URL": redis}

    return {
        "inventory-secrets": service("inventory"),
        "reorder-secrets": service("reorder"),
        "pipeline-secrets": with_stores("pipeline")
        | {"BATCH_DATABASE_URL": _postgres("stockflow_batch", values["DATABASE_PASSWORD_BATCH"])},
        "analytics-secrets": with_stores("analytics"),
        "migrations-secrets": {"MIGRATIONS_DATABASE_URL": _postgres("postgres", values["POSTGRES_PASSWORD"])}
        | {f"DATABASE_PASSWORD_{role}": values[f"DATABASE_PASSWORD_{role}"] for role in _ROLES},
        "dev-stores": {name: values[name] for name in PASSWORDS if not name.startswith("DATABASE_")},
        "api-keys": {"api-keys.json": api_keys},
    }


def manifest(secrets: Mapping[str, Mapping[str, str]]) -> dict[str, object]:
    """The Secrets as one Kubernetes List."""
    items = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(data)}
        for name, data in secrets.items()
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _postgres(role: str, password: str) -> str:
    return f"postgresql://{role}:{password}@postgres:5432/stockflow"


def main() -> None:
    """Print the Secrets."""
    directory = Path.cwd()
    values = read(directory)
    if missing := [name for name in PASSWORDS if name not in values]:
        sys.exit(f"{', '.join(missing)} missing: `make init-env` adds it.")
    api_keys = (directory / API_KEYS_FILE).read_text()
    json.dump(manifest(contents(values, api_keys)), sys.stdout, indent=2)


if __name__ == "__main__":
    main()
