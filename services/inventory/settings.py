"""Settings of the inventory service's processes."""

from pydantic import Field

from libs.chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """Environment variables of `python -m services.inventory`."""

    port: int = Field(default=8001, ge=0, le=65535, description="Port of the REST API; 0 takes any free one.")
