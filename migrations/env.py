"""Alembic's entry: upgrades the schema that the ini section names, in one transaction, as the owner role."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from migrations.roles import OWNER, RUNTIME_ROLES
from migrations.settings import MigrationSettings

_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('stockflow migrations'))")

schema = context.config.config_ini_section


def configure_and_run(connection: Connection) -> None:
    """Run the pending versions of this schema; the version table lives inside the schema."""
    context.configure(connection=connection, version_table_schema=schema)
    context.run_migrations()


async def upgrade(url: str) -> None:
    """Wait for anyone else who migrates, then upgrade; everything or nothing."""
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.execute(_LOCK)
        await connection.execute(text(f"SET LOCAL ROLE {OWNER}"))
        await connection.execute(text(f"SET LOCAL search_path = {schema}"))
        await connection.run_sync(configure_and_run)
        await connection.execute(text(f"GRANT SELECT ON alembic_version TO {', '.join(RUNTIME_ROLES)}"))
    await engine.dispose()


def write_sql() -> None:
    """Print the SQL instead of running it (`alembic -n inventory upgrade head --sql`)."""
    context.configure(dialect_name="postgresql", version_table_schema=schema, literal_binds=True)
    with context.begin_transaction():
        context.execute(f"SET LOCAL ROLE {OWNER}")
        context.execute(f"SET LOCAL search_path = {schema}")
        context.run_migrations()


if context.is_offline_mode():
    write_sql()
else:
    url = MigrationSettings().migrations_database_url.get_secret_value()
    asyncio.run(upgrade(url.replace("postgresql://", "postgresql+asyncpg://", 1)))
