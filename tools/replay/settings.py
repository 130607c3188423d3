"""Where the services are and the key to use them."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

STACK_ENV_FILE = ".local/stack.env"


class ClientSettings(BaseSettings):
    """Taken from the environment or, while a local stack runs, from the file it writes."""

    model_config = SettingsConfigDict(env_file=STACK_ENV_FILE, extra="ignore", frozen=True)

    inventory_url: str = Field(description="Address of the inventory service, without /api/v1.")
    reorder_url: str = Field(description="Address of the reorder service, without /api/v1.")
    api_key: SecretStr = Field(description="API key with the scopes inventory:write and reorder:write.")
