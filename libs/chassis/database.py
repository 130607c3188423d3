"""Postgres: the pool of a process, the transaction of a request, and queries built with SQLAlchemy Core."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

import asyncpg
from fastapi import Depends, FastAPI
from pydantic_core import from_json, to_json
from sqlalchemy import JSON, ClauseElement, Dialect
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.compiler import Compiled, SQLCompiler
from sqlalchemy.util import LRUCache
from starlette.requests import Request
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from libs.chassis.problems import database_unavailable, unavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

T = TypeVar("T")

ACQUIRE_TIMEOUT_SECONDS = 5.0
_DIALECT: Dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
_COMPILED: LRUCache[Any, Compiled] = LRUCache(500)


async def open_pool(
    url: str,
    *,
    size: int,
    application_name: str,
    statement_timeout_ms: int = 5000,
    lock_timeout_ms: int = 2000,
    search_path: str | None = None,
) -> Pool:
    """A connected pool of at most `size` connections; json and jsonb columns hold Python values.

    Unqualified names mean the role's own schema, unless `search_path` says otherwise.

    Connections go back without asyncpg's reset, which costs a round trip per request. An open transaction is still
    rolled back, but session state would leak: use SET LOCAL and transaction-level advisory locks, never SET, LISTEN or
    session locks, on connections of this pool.
    """
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=size,
        init=_set_json_codecs,
        reset=_keep_session,
        server_settings={
            **_session_settings(application_name, statement_timeout_ms, lock_timeout_ms),
            **({"search_path": search_path} if search_path else {}),
        },
    )


@asynccontextmanager
async def own_connection(url: str, *, application_name: str) -> AsyncIterator[Connection]:
    """A connection of no pool, for what lives as long as a session does, such as a lock; otherwise as in `open_pool`.

    The server notices within 20 s that the host at this end has vanished, and ends the session.
    """
    keepalives = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
    settings = _session_settings(application_name, statement_timeout_ms=5000, lock_timeout_ms=2000)
    connection = await asyncpg.connect(url, command_timeout=30, server_settings=settings | keepalives)
    try:
        await _set_json_codecs(connection)
        yield connection
    finally:
        connection.terminate()


async def readiness(app: FastAPI) -> dict[str, str]:
    """Whether the service's own database answers, for `create_app`."""
    pool: Pool = app.state.pool
    async with acquired(pool) as connection:
        await connection.execute("SELECT 1")
    return {"database": "ok"}


async def fetch_all(connection: Connection, statement: ClauseElement) -> list[asyncpg.Record]:
    """The rows of a SQLAlchemy Core statement, values as asyncpg reads them (enums are their text)."""
    sql, arguments = _compile(statement)
    return await connection.fetch(sql, *arguments)


async def fetch_one(connection: Connection, statement: ClauseElement) -> asyncpg.Record | None:
    """The first row of a SQLAlchemy Core statement, or None."""
    sql, arguments = _compile(statement)
    return await connection.fetchrow(sql, *arguments)


async def retrying(attempt: Callable[[], Awaitable[T]], *, attempts: int = 5) -> T:
    """The result of `attempt`, repeated when Postgres chose it as the victim of a serialization conflict or deadlock.

    `attempt` opens its own transaction, because the failed one cannot be continued.
    """
    async for trial in AsyncRetrying(
        retry=retry_if_exception_type((asyncpg.SerializationError, asyncpg.DeadlockDetectedError)),
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=0.02, max=1),
        reraise=True,
    ):
        with trial:
            return await attempt()
    raise AssertionError("tenacity ends in a result or an exception")


@asynccontextmanager
async def acquired(pool: Pool) -> AsyncIterator[Connection]:
    """A connection of the pool. A `Problem` 503 when none becomes free in time or the server is lost."""
    try:
        connection = await pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS)
    except TimeoutError as error:
        raise unavailable("database-busy", "No database connection became free in time. Try again.") from error
    except OSError as error:
        raise database_unavailable() from error
    try:
        # The pool's proxy forwards every method of the connection.
        yield cast(Connection, connection)
    except asyncpg.InternalClientError as error:
        # The server has ended the session with a FATAL message, and the driver still waits for what never follows one.
        connection.terminate()
        raise database_unavailable() from error
    except asyncpg.InterfaceError as error:
        if _is_lost(connection):
            raise database_unavailable() from error
        raise
    finally:
        await pool.release(connection)


def _is_lost(connection: "PoolConnectionProxy[asyncpg.Record]") -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # The pool has taken the dead connection back already.
        return True


async def _write_connection(request: Request) -> AsyncIterator[Connection]:
    async with acquired(request.app.state.pool) as connection, connection.transaction():
        yield connection


async def _read_connection(request: Request) -> AsyncIterator[Connection]:
    async with acquired(request.app.state.pool) as connection, connection.transaction(readonly=True):
        yield connection


WriteConnection = Annotated[Connection, Depends(_write_connection, scope="function")]
"""A connection in a transaction that is committed before the response is sent, and rolled back on any exception."""

ReadConnection = Annotated[Connection, Depends(_read_connection, scope="function")]
"""A connection in a READ ONLY transaction that ends before the response is sent."""


def _session_settings(application_name: str, statement_timeout_ms: int, lock_timeout_ms: int) -> dict[str, str]:
    return {
        "application_name": application_name,
        "statement_timeout": str(statement_timeout_ms),
        "lock_timeout": str(lock_timeout_ms),
        "idle_in_transaction_session_timeout": "60000",
        "timezone": "UTC",
    }


async def _set_json_codecs(connection: Connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=lambda value: to_json(value).decode(), decoder=from_json
        )


async def _keep_session(_connection: Connection) -> None:
    """Replaces asyncpg's reset; asyncpg itself has already rolled back an open transaction."""


def _compile(statement: ClauseElement) -> tuple[str, list[Any]]:
    """The statement as Postgres text with $1 parameters, IN lists expanded, and its arguments in order.

    Statements of the same form are compiled once, as SQLAlchemy's own connections do.
    """
    found, extracted, *_ = statement._compile_w_cache(_DIALECT, compiled_cache=_COMPILED, column_keys=[])
    compiled = cast(SQLCompiler, found)
    values = compiled.construct_params(extracted_parameters=extracted, _no_postcompile=True)
    sql, names = compiled.string, tuple(compiled.positiontup or ())
    if compiled.post_compile_params or compiled.literal_execute_params:
        expanded = compiled._process_parameters_for_postcompile(values)
        sql, names = expanded.statement, tuple(expanded.positiontup or ())
        values = {**values, **expanded.additional_parameters}
    return sql, [_bound(compiled, name, values[name]) for name in names]


def _bound(compiled: SQLCompiler, name: str, value: Any) -> Any:
    kind = compiled.binds[name].type if name in compiled.binds else None
    # The connection's own codec writes JSON.
    if kind is None or isinstance(kind, JSON):
        return value
    process = kind.dialect_impl(_DIALECT).bind_processor(_DIALECT)
    return value if process is None else process(value)
