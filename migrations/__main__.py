"""Brings a database to the present version: `python -m migrations`.

Creates what is missing of roles, passwords and schemas when MIGRATIONS_DATABASE_URL may do so, then upgrades every
schema to its head. Running it again, or twice at the same time, changes nothing more.
"""

import asyncio
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config

from migrations.roles import SCHEMAS, create_roles, create_schemas, may_create_roles
from migrations.settings import MigrationSettings, RolePasswords

_CONFIGURATION = Path(__file__).parent.parent / "alembic.ini"
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('stockflow roles'))"


async def prepare(settings: MigrationSettings, passwords: RolePasswords) -> None:
    """Create roles and schemas, unless the user may only migrate (then they must be there)."""
    connection = await asyncpg.connect(settings.migrations_database_url.get_secret_value())
    try:
        if await may_create_roles(connection):
            async with connection.transaction():
                await connection.execute(_LOCK)
                await create_roles(connection, passwords)
                await create_schemas(connection)
    finally:
        await connection.close()


def main() -> None:
    """Prepare the database, then upgrade each schema."""
    asyncio.run(prepare(MigrationSettings(), RolePasswords()))
    for schema in SCHEMAS:
        command.upgrade(Config(_CONFIGURATION, ini_section=schema), "head")


if __name__ == "__main__":
    main()
