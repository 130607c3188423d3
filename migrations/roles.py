"""Database roles and schemas: who may do what, before any table exists."""

from typing import Final

import asyncpg

from migrations.settings import RolePasswords

SCHEMAS: Final = ("inventory", "reorder", "pipeline")
OWNER: Final = "stockflow_owner"
RUNTIME_ROLES: Final = (*(f"stockflow_{schema}" for schema in SCHEMAS), "stockflow_analytics", "stockflow_batch")
"""Roles that services and batch jobs use; none of them owns anything."""


async def may_create_roles(connection: asyncpg.Connection) -> bool:
    """Whether the present user may create roles and give them passwords."""
    statement = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    allowed: bool = await connection.fetchval(statement)
    return allowed


async def create_roles(connection: asyncpg.Connection, passwords: RolePasswords) -> None:
    """Create the roles that are missing, set the passwords that are given, and what each role finds unqualified."""
    present = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
    for role in (OWNER, *RUNTIME_ROLES):
        if role not in present:
            await connection.execute(f"CREATE ROLE {role} LOGIN")
        password = getattr(passwords, role.removeprefix("stockflow_"))
        if password is not None:
            # A utility statement takes no parameters: the server itself quotes the password.
            alter = "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)"
            await connection.execute(await connection.fetchval(alter, role, password.get_secret_value()))
    for schema in SCHEMAS:
        await connection.execute(f"ALTER ROLE stockflow_{schema} SET search_path = {schema}")
    await connection.execute("ALTER ROLE stockflow_batch SET default_transaction_read_only = on")


async def create_schemas(connection: asyncpg.Connection) -> None:
    """Create the schemas that are missing; every role may look into each, and touch only what is granted there.

    In `<schema>_rebuild` a service builds its results anew from the topics before it puts them in place.
    """
    for schema in SCHEMAS:
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {OWNER}")
        await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {', '.join(RUNTIME_ROLES)}")
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}_rebuild AUTHORIZATION stockflow_{schema}")
    await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
