"""`python -m migrations.wait`: return when every schema of DATABASE_URL is ready for this release.

For what starts beside the migrations: any role may read which version each schema has.
"""

import asyncio
import sys
from pathlib import Path
from typing import Final

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from migrations.roles import SCHEMAS

CONFIGURATION: Final = Path(__file__).parent.parent / "alembic.ini"
POLL_SECONDS: Final = 1.0


class WaitSettings(BaseSettings):
    """Environment of `python -m migrations.wait`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: SecretStr = Field(description="The database, as any of its roles.")
    migrations_patience_seconds: float = Field(300.0, gt=0, description="How long to wait before giving up.")


async def outdated(connection: asyncpg.Connection) -> list[str]:
    """The schemas that are behind this release. One that a later release has migrated is not."""
    return [schema for schema in SCHEMAS if await _version(connection, schema) in _earlier_versions(schema)]


async def wait(settings: WaitSettings) -> None:
    """Return when no schema is behind; print why not, whenever that changes. Raises TimeoutError."""
    told = ""
    async with asyncio.timeout(settings.migrations_patience_seconds):
        while reason := await _reason_to_wait(settings.database_url.get_secret_value()):
            if reason != told:
                sys.stderr.write(f"waiting: {reason}\n")
            told = reason
            await asyncio.sleep(POLL_SECONDS)


async def _reason_to_wait(url: str) -> str:
    """Empty when the database is ready. Before the first migration it lacks tables, roles, or does not answer."""
    try:
        connection = await asyncpg.connect(url)
        try:
            return ", ".join(await outdated(connection))
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError) as error:
        return f"{type(error).__name__}: {error}"


async def _version(connection: asyncpg.Connection, schema: str) -> str | None:
    version: str | None = await connection.fetchval(f"SELECT version_num FROM {schema}.alembic_version")
    return version


def _earlier_versions(schema: str) -> set[str | None]:
    revisions = ScriptDirectory.from_config(Config(CONFIGURATION, ini_section=schema)).walk_revisions()
    _head, *earlier = (revision.revision for revision in revisions)
    return {None, *earlier}


if __name__ == "__main__":
    asyncio.run(wait(WaitSettings()))
