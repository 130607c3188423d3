"""What the migrations need to know."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class MigrationSettings(BaseSettings):
    """Environment of `python -m migrations` and of `alembic`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    migrations_database_url: SecretStr = Field(
        description="The database, as a superuser (who also creates the roles) or as stockflow_owner."
    )


class RolePasswords(BaseSettings):
    """A password per role, from `DATABASE_PASSWORD_OWNER` and so on; a role without one keeps what it has."""

    model_config = SettingsConfigDict(env_prefix="DATABASE_PASSWORD_", frozen=True, extra="ignore")

    owner: SecretStr | None = Field(None, description="Owns the schemas and runs migrations.")
    inventory: SecretStr | None = Field(None, description="The inventory service.")
    reorder: SecretStr | None = Field(None, description="The reorder service.")
    pipeline: SecretStr | None = Field(None, description="The pipeline service.")
    analytics: SecretStr | None = Field(None, description="The analytics service: published views only.")
    batch: SecretStr | None = Field(None, description="Batch extraction: published views only.")
