"""Backfills: a run for each scheduled interval of a range."""

from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import AwareDatetime, Field, model_validator

from libs.chassis.database import WriteConnection
from libs.chassis.model import ApiModel
from libs.chassis.problems import RefusalMap
from libs.chassis.replay import mark_replayed
from libs.events.envelope import Instant, WarehouseId
from services.pipeline.jobs import runs
from services.pipeline.jobs.backfill import Backfill, TooManyIntervals, Which
from services.pipeline.jobs.job import Interval
from services.pipeline.routes.access import Starter, check_warehouse
from services.pipeline.routes.runs import IdempotencyKey, end_lost_runs

MOST_INTERVALS = 366

REFUSALS: RefusalMap = {TooManyIntervals: (422, "too-many-intervals")}

router = APIRouter(prefix="/api/v1/backfills", tags=["runs"])


class BackfillIn(ApiModel):
    """Which intervals are to be run."""

    job: Annotated[str, Field(min_length=1, max_length=64)]
    range_start: Instant
    range_end: Annotated[
        Instant, Field(description=f"Intervals end by then. A range holds at most {MOST_INTERVALS} of them.")
    ]
    which: Annotated[
        Which,
        Field(
            strict=False,
            description="`missing`: not done. `failed`: of a step the latest run has failed.",
        ),
    ] = Which.MISSING
    warehouse_id: Annotated[
        WarehouseId | None, Field(description="Only this warehouse's partitions, where the job can do that.")
    ] = None
    dry_run: Annotated[bool, Field(description="Only tell which intervals these are.")] = False

    @model_validator(mode="after")
    def _has_a_range(self) -> Self:
        if self.range_start >= self.range_end:
            raise ValueError("rangeStart must lie before rangeEnd")
        return self

    def asked_by(self, name: str) -> Backfill:
        """The backfill, as somebody's."""
        return Backfill(
            self.job, self.range_start, self.range_end, self.which, name, self.warehouse_id, most=MOST_INTERVALS
        )


class FilledIntervalOut(ApiModel):
    """An interval and its run."""

    interval_start: AwareDatetime
    interval_end: AwareDatetime
    run_id: Annotated[UUID | None, Field(description="The run that computes it; null in a dry run.")]

    @classmethod
    def of(cls, interval: Interval, run_id: UUID | None) -> Self:
        """An interval and its run."""
        return cls(interval_start=interval.start, interval_end=interval.end, run_id=run_id)


class BackfillOut(ApiModel):
    """What a backfill runs."""

    intervals: Annotated[list[FilledIntervalOut], Field(description="Oldest first.")]


@router.post(
    "",
    status_code=202,
    dependencies=[Depends(end_lost_runs)],
    responses={200: {"model": BackfillOut, "description": "Started before, or a dry run: nothing was started"}},
)
async def start_backfill(
    body: BackfillIn,
    connection: WriteConnection,
    principal: Starter,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> BackfillOut:
    """Have a job run for each scheduled interval of a range: all of these runs are queued, or none.

    So many of them run at a time as the job allows (`maxParallelRuns`). An interval of which a run is queued or running
    already, be it of some steps only, is answered with that run and gets no other. The same Idempotency-Key is answered
    with the same runs; an answer without any is not remembered.
    """
    check_warehouse(principal, body.warehouse_id)
    if body.dry_run:
        response.status_code = 200
        requests = await runs.plan(connection, body.asked_by(principal.name))
        return BackfillOut(intervals=[FilledIntervalOut.of(request.interval, None) for request in requests])
    filled = await runs.fill(connection, body.asked_by(principal.name), key=idempotency_key)
    if not filled.is_new:
        mark_replayed(response)
    return BackfillOut(
        intervals=[FilledIntervalOut.of(interval, run_id) for interval, run_id in filled.run_ids.items()]
    )
