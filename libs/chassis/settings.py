"""The settings that every process of every service shares."""

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]
AuthMode = Literal["api-key", "off"]


class ServiceSettings(BaseSettings):
    """Read from environment variables of the same names; a service adds its own fields in a subclass."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: SecretStr = Field(description="Postgres DSN of the service's own role.")
    database_pool_size: int = Field(default=10, ge=1, le=200, description="Most connections that one process opens.")
    host: str = Field(default="127.0.0.1", description="Address that the HTTP servers listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port of the REST API; 0 takes any free one.")
    root_path: str = Field(
        default="",
        pattern=r"^(/[a-z0-9-]+)*$",
        description="Prefix under which a gateway shows the API, such as /inventory.",
    )
    ops_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port of /healthz and /metrics of a worker process; 0 takes any free one.",
    )
    log_format: LogFormat = Field(default="console", description="json in containers, console for people.")
    log_level: LogLevel = Field(default="info", description="Least severe level that is written.")
    auth_mode: AuthMode = Field(default="api-key", description="off is refused unless host is a loopback address.")
    api_keys_file: Path | None = Field(default=None, description="JSON list of API keys; read again when it changes.")
    version: str = Field(default="0.1.0", description="Release that /version reports.")

    @model_validator(mode="after")
    def _no_open_api_on_the_network(self) -> Self:
        if self.auth_mode == "off" and not _is_loopback(self.host):
            raise ValueError(f"AUTH_MODE=off is refused on {self.host}: only loopback addresses may go without auth")
        return self


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
