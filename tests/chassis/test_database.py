"""The request's transaction and Core queries, against the real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
    bindparam,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from libs.chassis.database import Connection, Pool, acquired, fetch_all, fetch_one, open_pool, readiness, retrying
from libs.chassis.problems import Problem
from tests.chassis.test_problems import problem


class Status(StrEnum):
    """A closed set as services have them."""

    OPEN = "open"
    CLOSED = "closed"


everything = Table(
    "everything",
    MetaData(),
    Column("id", Uuid, primary_key=True),
    Column("at", DateTime(timezone=True)),
    Column("day", Date),
    Column("cost", Numeric(18, 4)),
    Column("status", Enum(Status, values_callable=lambda kind: [member.value for member in kind], native_enum=False)),
    Column("active", Boolean),
    Column("tags", ARRAY(Text)),
    Column("document", JSONB),
    Column("units", BigInteger),
)
ROW = {
    "id": UUID("7f1f1a2e-9d0e-4a7e-8f6e-2b9f3a4c5d6e"),
    "at": datetime(2026, 7, 1, 12, tzinfo=UTC),
    "day": date(2026, 7, 1),
    "cost": Decimal("12.5000"),
    "status": Status.CLOSED,
    "active": True,
    "tags": ["a", "b"],
    "document": {"lines": [1, 2]},
    "units": 2**63 - 1,
}


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection to a database with one row of every type."""
    async with acquired(pool) as connection, connection.transaction():
        await connection.execute(
            "CREATE TEMPORARY TABLE everything (id uuid, at timestamptz, day date, cost numeric(18, 4), status text,"
            " active boolean, tags text[], document jsonb, units bigint) ON COMMIT DROP"
        )
        await fetch_all(connection, insert(everything).values(ROW))
        yield connection


async def test_every_type_comes_back_as_it_was_written(connection: Connection) -> None:
    row = await fetch_one(connection, select(everything))
    assert row is not None
    assert dict(row) == ROW


@pytest.mark.parametrize("column", ["id", "at", "day", "cost", "status", "active", "tags", "document", "units"])
async def test_every_type_can_be_compared(connection: Connection, column: str) -> None:
    rows = await fetch_all(connection, select(everything).where(everything.c[column] == ROW[column]))
    assert len(rows) == 1


async def test_in_lists_and_literals_are_expanded(connection: Connection) -> None:
    statement = (
        select(everything.c.units, literal("it's").label("text"))
        .where(everything.c.id.in_([ROW["id"], UUID(int=1)]), everything.c.status.in_([Status.CLOSED]))
        .where(everything.c.tags.contains(["a"]), everything.c.day.not_in([]))
        .order_by(everything.c.units)
        .limit(5)
    )
    assert [tuple(row) for row in await fetch_all(connection, statement)] == [(2**63 - 1, "it's")]


async def test_empty_results_and_updates(connection: Connection) -> None:
    assert await fetch_one(connection, select(everything).where(everything.c.active.is_(False))) is None
    changed = await fetch_all(connection, update(everything).values(active=False).returning(everything.c.units))
    assert [row["units"] for row in changed] == [2**63 - 1]
    assert (await fetch_all(connection, select(func.count()).select_from(everything)))[0][0] == 1


async def test_a_parameter_without_value_is_an_error(connection: Connection) -> None:
    with pytest.raises(Exception, match="units"):
        await fetch_all(connection, select(everything).where(everything.c.units == bindparam("units")))


async def test_what_was_answered_is_committed(database_client: httpx.AsyncClient, pool: Pool) -> None:
    response = await database_client.post("/api/v1/parcels", json={"parcelId": 1, "label": "first"})
    assert response.status_code == 201
    assert await pool.fetchval("SELECT label FROM parcel WHERE parcel_id = 1") == "first"


async def test_a_commit_that_fails_is_not_answered_as_success(database_client: httpx.AsyncClient, pool: Pool) -> None:
    """The label's uniqueness is deferred, so that only COMMIT finds it violated."""
    await database_client.post("/api/v1/parcels", json={"parcelId": 1, "label": "same"})
    response = await database_client.post("/api/v1/parcels", json={"parcelId": 2, "label": "same"})
    assert problem(response, 409, "label-taken")["detail"] == "Another parcel has this label."
    assert await pool.fetchval("SELECT count(*) FROM parcel") == 1


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"weight": -1}, 422, "negative-weight"),
        ({"ownerId": 0}, 500, "internal-error"),
        ({"weight": 2**31}, 422, "value-out-of-range"),
    ],
)
async def test_database_refusals_become_problems(
    database_client: httpx.AsyncClient, pool: Pool, change: dict[str, int], status: int, code: str
) -> None:
    response = await database_client.post("/api/v1/parcels", json={"parcelId": 1, "label": "a"} | change)
    problem(response, status, code)
    assert await pool.fetchval("SELECT count(*) FROM parcel") == 0


async def test_a_read_connection_cannot_write(database_client: httpx.AsyncClient) -> None:
    problem(await database_client.delete("/api/v1/parcels"), 500, "internal-error")


async def test_a_held_lock_is_503_with_retry_after(database_client: httpx.AsyncClient, pool: Pool) -> None:
    async with acquired(pool) as other, other.transaction():
        await other.execute("LOCK TABLE parcel")
        response = await database_client.post("/api/v1/parcels", json={"parcelId": 1, "label": "a"})
    problem(response, 503, "lock-timeout")
    assert response.headers["retry-after"] == "1"


async def test_a_lost_connection_is_503_and_the_next_request_works(
    database_client: httpx.AsyncClient, pool: Pool, superuser_url: str
) -> None:
    async with acquired(pool) as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE parcel")
        request = asyncio.create_task(database_client.post("/api/v1/parcels", json={"parcelId": 1, "label": "a"}))
        await asyncio.sleep(0.2)
        killer = await asyncpg.connect(superuser_url)
        await killer.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
        await killer.close()
        problem(await request, 503, "database-unavailable")
    response = await database_client.post("/api/v1/parcels", json={"parcelId": 1, "label": "a"})
    assert response.status_code == 201


async def test_an_exhausted_pool_is_503(
    database_client: httpx.AsyncClient, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.chassis.database.ACQUIRE_TIMEOUT_SECONDS", 0.05)
    connections = [await pool.acquire() for _ in range(pool.get_max_size())]
    problem(await database_client.get("/api/v1/parcels"), 503, "database-busy")
    for connection in connections:
        await pool.release(connection)


async def test_a_released_connection_keeps_no_open_transaction(pool: Pool) -> None:
    connection = await pool.acquire()
    await connection.execute("INSERT INTO parcel (parcel_id, label, weight) VALUES (9, 'nine', 0)")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("DELETE FROM parcel")
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    await pool.release(connection)
    asyncio.get_running_loop().set_exception_handler(None)
    assert await pool.fetchval("SELECT count(*) FROM parcel") == 1


async def test_readiness_asks_the_database(database_app: FastAPI) -> None:
    assert await readiness(database_app) == {"database": "ok"}


async def test_a_database_that_is_not_there_is_503() -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        await open_pool("postgresql://nobody@127.0.0.1:1/none", size=1, application_name="test")


async def test_serialization_conflicts_are_repeated(pool: Pool) -> None:
    """Two transactions that read both rows and write one each: Postgres lets only one of them commit."""
    await pool.execute("INSERT INTO parcel (parcel_id, label, weight) VALUES (1, 'a', 0), (2, 'b', 0)")
    tries = 0
    both_have_read = asyncio.Barrier(2)

    async def copy_total_to(parcel_id: int) -> None:
        nonlocal tries
        tries += 1
        async with acquired(pool) as connection, connection.transaction(isolation="serializable"):
            total = await connection.fetchval("SELECT sum(weight) FROM parcel")
            if tries <= 2:
                await both_have_read.wait()
            await connection.execute("UPDATE parcel SET weight = $1 + 1 WHERE parcel_id = $2", total, parcel_id)

    await asyncio.gather(retrying(lambda: copy_total_to(1)), retrying(lambda: copy_total_to(2)))
    assert tries == 3
    assert await pool.fetchval("SELECT sum(weight) FROM parcel") == 3


async def test_retrying_ends_with_the_last_error() -> None:
    async def always_deadlocked() -> None:
        raise asyncpg.DeadlockDetectedError("deadlock")

    with pytest.raises(asyncpg.DeadlockDetectedError):
        await retrying(always_deadlocked, attempts=2)


async def test_other_errors_are_not_repeated() -> None:
    tries = 0

    async def refused() -> None:
        nonlocal tries
        tries += 1
        raise Problem(409, "no", "no")

    with pytest.raises(Problem):
        await retrying(refused)
    assert tries == 1


async def test_a_value_of_ours_that_the_database_cannot_hold_is_a_bug(database_client: httpx.AsyncClient) -> None:
    problem(await database_client.get("/api/v1/miscounts"), 500, "internal-error")


async def test_a_value_of_the_caller_that_the_database_cannot_hold_is_422(database_client: httpx.AsyncClient) -> None:
    response = await database_client.get("/api/v1/miscounts", params={"at_least": 2**31})
    problem(response, 422, "value-out-of-range")


async def test_a_rule_of_a_field_tells_its_own_words(database_client: httpx.AsyncClient) -> None:
    response = await database_client.post("/api/v1/parcels", json={"parcelId": 1, "label": "HELLO"})
    assert problem(response, 422, "validation-failed")["errors"] == [{"pointer": "/label", "detail": "do not shout"}]
