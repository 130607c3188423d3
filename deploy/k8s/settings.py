"""`python -m deploy.k8s.settings`: writes the settings.env files of the ConfigMaps from the settings classes.

Every setting that is not a secret stands there with its meaning and its value in a cluster, so that whoever operates
Stockflow reads one file per service, and a new setting cannot be forgotten: a test compares.
"""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from libs.events.settings import KafkaSettings
from services.analytics.settings import Settings as AnalyticsSettings
from services.inventory.settings import Settings as InventorySettings
from services.pipeline.settings import Settings as PipelineSettings
from services.reorder.settings import Settings as ReorderSettings

BASE: Final = Path(__file__).parent / "base"
SERVICES: Final[Mapping[str, type[BaseSettings]]] = {
    "inventory": InventorySettings,
    "reorder": ReorderSettings,
    "pipeline": PipelineSettings,
    "analytics": AnalyticsSettings,
}
PORT: Final = 8000
"""Where every container listens: an API, or a worker's ops server."""

_SET_BY_THE_IMAGE: Final = {"VERSION"}
_CLUSTER: Final = {
    "HOST": "0.0.0.0",
    "PORT": str(PORT),
    "OPS_PORT": str(PORT),
    "LOG_FORMAT": "json",
    "API_KEYS_FILE": "/etc/stockflow/api-keys/api-keys.json",
    "LAKE_URL": "/var/lib/stockflow/lake",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
}
"""What is the same in every cluster and differs from the defaults, which are for a laptop."""

_HEAD: Final = (
    "# Written by `make cluster-settings` from the settings classes. Overlays change values by `behavior: merge`.\n"
)
_COMMENT: Final = textwrap.TextWrapper(width=118, initial_indent="# ", subsequent_indent="# ")


def names(settings: type[BaseSettings]) -> dict[str, FieldInfo]:
    """Environment variable -> field, without what another class reads (`KAFKA_*`)."""
    prefix = settings.model_config.get("env_prefix", "")
    return {f"{prefix}{name}".upper(): field for name, field in settings.model_fields.items() if not _is_block(field)}


def is_secret(field: FieldInfo) -> bool:
    """Whether the value belongs into a Secret."""
    return SecretStr in (field.annotation, *get_args(field.annotation))


def env_file(settings: type[BaseSettings], values: Mapping[str, str]) -> str:
    """The settings.env of a class; a setting without a value is named in a comment."""
    return _HEAD + "".join(_lines(settings, values))


def env_files() -> dict[Path, str]:
    """Path -> content of every settings.env."""
    services = {
        BASE / service / "settings.env": env_file(settings, _CLUSTER | {"ROOT_PATH": f"/{service}"})
        for service, settings in SERVICES.items()
    }
    return services | {BASE / "common" / "kafka.env": env_file(KafkaSettings, _CLUSTER)}


def _lines(settings: type[BaseSettings], values: Mapping[str, str]) -> Iterator[str]:
    for name, field in names(settings).items():
        if is_secret(field) or name in _SET_BY_THE_IMAGE:
            continue
        value = values.get(name, _text(field.default))
        assignment = f"{name}={value}" if value is not None else f"# {name}="
        yield f"\n{_COMMENT.fill(field.description or '')}\n{assignment}\n"


def _text(default: Any) -> str | None:
    return None if default is None else str(default)


def _is_block(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def main() -> None:
    """Write all files."""
    for path, content in env_files().items():
        path.write_text(content)
        print(path)


if __name__ == "__main__":
    main()
