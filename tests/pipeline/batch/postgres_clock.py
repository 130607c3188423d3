"""A clock of Postgres that a test sets: a `now()` that a session finds before Postgres' own."""

from datetime import datetime

import asyncpg

from libs.chassis.database import Connection
from tests.stack import Database


async def install(database: Database) -> None:
    """Have sessions be able to be given a time."""
    owner = await asyncpg.connect(database.superuser_url)
    try:
        await owner.execute("""
            CREATE SCHEMA IF NOT EXISTS test_clock;
            GRANT USAGE ON SCHEMA test_clock TO PUBLIC;
            CREATE OR REPLACE FUNCTION test_clock.now() RETURNS timestamptz STABLE LANGUAGE sql
            RETURN current_setting('test_clock.now')::timestamptz
        """)
    finally:
        await owner.close()


async def stop_at(connection: Connection, now: datetime) -> None:
    """Have a session take this for the time. Not one of a pool, which would keep it."""
    await connection.execute("SET search_path = test_clock, pg_catalog, pipeline")
    await connection.execute("SELECT set_config('test_clock.now', $1, false)", now.isoformat())
