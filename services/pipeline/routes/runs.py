"""Runs of the batch jobs. The API starts and follows them; the `batch` process executes them."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy import select

from libs.chassis.auth import Principal
from libs.chassis.database import Connection, Pool, ReadConnection, WriteConnection, acquired, fetch_all
from libs.chassis.paging import Page, Paging, keyset
from libs.chassis.problems import RefusalMap
from libs.chassis.replay import mark_replayed
from libs.events.envelope import Instant, WarehouseId
from services.pipeline.jobs import job as job_definitions
from services.pipeline.jobs import run_queries, runs, schedule_queries
from services.pipeline.jobs.lost import end_lost
from services.pipeline.jobs.run import (
    IntervalNotOver,
    IntervalTooEarly,
    Key,
    KeyReused,
    NotCancellable,
    NotRetryable,
    RunInProgress,
    RunStatus,
    UnknownRun,
)
from services.pipeline.routes.access import Reader, Starter, check_warehouse
from services.pipeline.routes.run_bodies import JobOut, LogLineOut, RunIn, RunOut
from services.pipeline.tables import run, run_log

LONGEST_WAIT_SECONDS = 30
POLL_SECONDS = 0.25

REFUSALS: RefusalMap = {
    UnknownRun: (404, "not-found"),
    job_definitions.UnknownJob: (422, "unknown-job"),
    job_definitions.NotByWarehouse: (422, "not-by-warehouse"),
    IntervalNotOver: (422, "interval-not-over"),
    IntervalTooEarly: (422, "interval-too-early"),
    KeyReused: (422, "idempotency-key-reused"),
    RunInProgress: (409, "run-in-progress"),
    NotRetryable: (409, "invalid-transition"),
    NotCancellable: (409, "invalid-transition"),
}

router = APIRouter(prefix="/api/v1", tags=["runs"])

IdempotencyKey = Annotated[Key | None, Header(description="Chosen by the caller; known as long as its run is kept.")]


@router.get("/jobs")
async def list_jobs(connection: ReadConnection, principal: Reader) -> Page[JobOut]:
    """The batch jobs: schedule, steps, next run, last success, and whether their data are fresh."""
    jobs = job_definitions.jobs().values()
    successes = await schedule_queries.last_successes(connection, jobs)
    now = datetime.now(UTC)
    return Page(items=[JobOut.of(job, successes.get(job.id), now) for job in jobs], next_cursor=None)


async def end_lost_runs(request: Request, principal: Starter) -> None:
    """Before the request's own transaction, so that runs whose process has died stand in nobody's way."""
    await end_lost(request.app.state.pool, request.app.state.settings)


@router.post(
    "/runs",
    status_code=202,
    dependencies=[Depends(end_lost_runs)],
    responses={200: {"model": RunOut, "description": "Started before"}},
)
async def start_run(
    body: RunIn,
    request: Request,
    connection: WriteConnection,
    principal: Starter,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> RunOut:
    """Have a job run over a data interval.

    The same Idempotency-Key is answered with the same run. While the same work is queued or running, the answer is
    that run, too. What has succeeded before is computed again.
    """
    check_warehouse(principal, body.warehouse_id)
    started = await runs.start(connection, body.asked_by(principal.name), key=idempotency_key)
    if not started.is_new:
        mark_replayed(response)
    response.headers["Location"] = f"{request.url.path}/{started.run_id}"
    return await _shown(connection, started.run_id, principal)


@router.get("/runs")
async def list_runs(
    connection: ReadConnection,
    paging: Paging,
    principal: Reader,
    job: Annotated[str | None, Query(max_length=64)] = None,
    status: Annotated[RunStatus | None, Query()] = None,
    warehouse_id: Annotated[WarehouseId | None, Query(alias="warehouseId", description="Runs of it alone.")] = None,
    interval_from: Annotated[Instant | None, Query(alias="intervalFrom", description="Ends after this.")] = None,
    interval_to: Annotated[Instant | None, Query(alias="intervalTo", description="Starts before this.")] = None,
) -> Page[RunOut]:
    """Runs with their steps, the latest request first. A key for some warehouses sees the runs of these alone."""
    optional = (
        None if principal.warehouses is None else run.c.warehouse_id.in_(sorted(principal.warehouses)),
        None if job is None else run.c.job == job,
        None if status is None else run.c.status == status.value,
        None if warehouse_id is None else run.c.warehouse_id == warehouse_id,
        None if interval_from is None else run.c.interval_end > interval_from,
        None if interval_to is None else run.c.interval_start < interval_to,
    )
    statement = select(run).where(*(condition for condition in optional if condition is not None))
    rows = await fetch_all(connection, keyset(statement, [run.c.requested_at.desc(), run.c.run_id.desc()], paging))
    steps = defaultdict(list)
    for step in await run_queries.steps_of(connection, [row["run_id"] for row in rows]):
        steps[step["run_id"]].append(step)
    return paging.page(rows, ["requested_at", "run_id"], lambda row: RunOut.of(row, steps[row["run_id"]]))


@router.get("/runs/{run_id}")
async def get_run(
    run_id: UUID,
    request: Request,
    principal: Reader,
    wait_seconds: Annotated[
        int,
        Query(alias="waitSeconds", ge=0, le=LONGEST_WAIT_SECONDS, description="Answer once the run is over, or then."),
    ] = 0,
) -> RunOut:
    """One run with its steps."""
    pool: Pool = request.app.state.pool
    give_up_at = asyncio.get_running_loop().time() + wait_seconds
    while True:
        async with acquired(pool) as connection, connection.transaction(readonly=True):
            shown = await _shown(connection, run_id, principal)
        if shown.status.is_final or asyncio.get_running_loop().time() >= give_up_at:
            return shown
        await asyncio.sleep(POLL_SECONDS)


@router.get("/runs/{run_id}/logs")
async def list_run_logs(
    run_id: UUID, connection: ReadConnection, paging: Paging, principal: Reader
) -> Page[LogLineOut]:
    """What a run has logged, in order."""
    await _permitted(connection, run_id, principal)
    statement = select(run_log).where(run_log.c.run_id == run_id)
    rows = await fetch_all(connection, keyset(statement, [run_log.c.id], paging))
    return paging.page(rows, ["id"], LogLineOut.of)


@router.post("/runs/{run_id}/retry", status_code=202, dependencies=[Depends(end_lost_runs)])
async def retry_run(run_id: UUID, connection: WriteConnection, principal: Starter) -> RunOut:
    """Go on with the steps of a failed or cancelled run that have not succeeded."""
    await _permitted(connection, run_id, principal)
    await runs.retry(connection, run_id)
    return await _shown(connection, run_id, principal)


@router.post("/runs/{run_id}/cancel", status_code=202)
async def cancel_run(run_id: UUID, connection: WriteConnection, principal: Starter) -> RunOut:
    """End a run: at once while it is queued, else within seconds. What it has replaced until then stays."""
    await _permitted(connection, run_id, principal)
    await runs.cancel(connection, run_id, principal.name)
    return await _shown(connection, run_id, principal)


async def _permitted(connection: Connection, run_id: UUID, principal: Principal) -> asyncpg.Record:
    row = await runs.found(connection, run_id)
    check_warehouse(principal, row["warehouse_id"])
    return row


async def _shown(connection: Connection, run_id: UUID, principal: Principal) -> RunOut:
    row = await _permitted(connection, run_id, principal)
    return RunOut.of(row, await run_queries.steps_of(connection, [run_id]))
