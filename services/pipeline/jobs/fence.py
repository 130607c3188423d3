"""What an attempt of a run writes counts only as long as the attempt does."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Self
from uuid import UUID

import pyarrow as pa
from adbc_driver_postgresql import dbapi

from libs.chassis.database import Connection, acquired, own_connection
from services.pipeline.jobs import run_queries
from services.pipeline.jobs.run import Fenced
from services.pipeline.jobs.step import Context, StepFunction, StepResult


@dataclass(frozen=True, slots=True)
class Fence:
    """Stops what an attempt writes once it was cancelled, taken for lost or begun again."""

    url: str
    run_id: UUID
    attempt: int

    @classmethod
    def of(cls, context: Context) -> Self:
        """That of the attempt which a step is part of."""
        return cls(context.settings.database_url.get_secret_value(), context.run_id, context.attempt)

    def rows(self, rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
        """The same rows, whose reader fails after the last one unless the attempt still counts. Blocks."""
        return pa.RecordBatchReader.from_batches(rows.schema, self._checked_at_the_end(rows))

    def hold(self, cursor: Any) -> None:
        """Until the transaction of this cursor ends, the attempt cannot. Raises Fenced when it has ended. Blocks."""
        cursor.execute(
            f"""
            SELECT true FROM pipeline.run
             WHERE run_id = '{self.run_id}' AND attempt = {self.attempt:d} AND status = 'running' FOR SHARE
            """
        )
        if cursor.fetchone() is None:
            raise fenced(self.run_id, self.attempt)

    def _checked_at_the_end(self, rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        yield from rows
        with dbapi.connect(self.url) as connection, connection.cursor() as cursor:
            self.hold(cursor)


@asynccontextmanager
async def transaction(context: Context) -> AsyncIterator[Connection]:
    """A transaction that is committed only if the step's attempt counts at its end. Raises Fenced."""
    async with acquired(context.pool) as connection, connection.transaction():
        yield connection
        if not await run_queries.lock_attempt(connection, context.run_id, context.attempt):
            raise fenced(context.run_id, context.attempt)


@asynccontextmanager
async def alone(context: Context) -> AsyncIterator[None]:
    """Meanwhile no other run executes this step of the job: it waits, and then sees what this one has done.

    That saves runs of other intervals from redoing the same dates, and from conflicts; what keeps their writes apart
    is `transaction` and the lake's own check. The lock goes with its connection.
    """
    url = context.settings.database_url.get_secret_value()
    async with own_connection(url, application_name="pipeline-step") as connection:
        # It waits as long as the run may take.
        await connection.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        name = f"pipeline step {context.job.id}.{context.step.name}"
        await connection.execute("SELECT pg_advisory_lock(hashtext($1))", name, timeout=context.job.timeout_seconds)
        yield


def one_run_at_a_time(function: StepFunction) -> StepFunction:
    """A step that a run executes `alone`."""

    @wraps(function)
    async def executed_alone(context: Context, /) -> StepResult:
        async with alone(context):
            return await function(context)

    return executed_alone


def fenced(run_id: UUID, attempt: int) -> Fenced:
    """The error of who goes on though others have taken over."""
    return Fenced(f"attempt {attempt} of run {run_id} does not count any more")
