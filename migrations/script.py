"""Runs the SQL of a version file."""

from alembic import context, op
from sqlalchemy.util import await_only


def execute(script: str) -> None:
    """Run any number of SQL statements, as text, in the migration's transaction.

    `op.execute` takes one statement only: asyncpg prepares what it is given.
    """
    if context.is_offline_mode():
        op.execute(script)
        return
    connection = op.get_bind().connection.driver_connection
    assert connection is not None, "a migration runs on an open connection"
    await_only(connection.execute(script))
