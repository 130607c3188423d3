"""Bodies of runs and jobs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

import asyncpg
from pydantic import AwareDatetime, Field, JsonValue, model_validator

from libs.chassis.model import ApiModel, RowModel
from libs.events.envelope import WarehouseId
from services.pipeline.jobs import freshness
from services.pipeline.jobs.freshness import Freshness, Success
from services.pipeline.jobs.job import Interval, Job
from services.pipeline.jobs.run import RunRequest, RunStatus, StepStatus


class StepDefinitionOut(ApiModel):
    """A step of a job."""

    name: str
    after: Annotated[list[str], Field(description="Steps that must have succeeded before.")]


class SuccessOut(ApiModel):
    """An interval of which every step has succeeded."""

    interval_start: AwareDatetime
    interval_end: AwareDatetime
    finished_at: AwareDatetime

    @classmethod
    def of(cls, success: Success) -> Self:
        """A success of the ledger."""
        interval = success.interval
        return cls(interval_start=interval.start, interval_end=interval.end, finished_at=success.finished_at)


class JobOut(ApiModel):
    """A batch job."""

    id: str
    description: str
    cron: Annotated[str, Field(description="UTC. A run covers the interval between two of its instants.")]
    steps: list[StepDefinitionOut]
    timeout_seconds: int
    retries: int
    max_parallel_runs: int
    by_warehouse: Annotated[bool, Field(description="Whether a run may be about one warehouse.")]
    max_catchup: Annotated[int, Field(description="Most of the latest intervals made up for after a downtime.")]
    deadline_seconds: Annotated[int, Field(description="From an interval's end until its run must have succeeded.")]
    freshness_seconds: Annotated[int, Field(description="The largest lag of data that count as fresh.")]
    next_run_at: Annotated[AwareDatetime, Field(description="When the present interval is over.")]
    last_success: SuccessOut | None
    lag_seconds: Annotated[float | None, Field(description="Time since the end of the last interval that succeeded.")]
    freshness: Annotated[Freshness, Field(description="`never`: no interval has succeeded yet.")]

    @classmethod
    def of(cls, job: Job, last_success: Success | None, now: datetime) -> Self:
        """A job as `schedules.yaml` describes it, and how new its data are."""
        lag = freshness.lag(last_success, now)
        return cls(
            max_catchup=job.max_catchup,
            deadline_seconds=job.deadline_seconds,
            freshness_seconds=job.freshness_seconds,
            next_run_at=job.next_instant(now),
            last_success=None if last_success is None else SuccessOut.of(last_success),
            lag_seconds=None if lag is None else lag.total_seconds(),
            freshness=freshness.freshness(job, last_success, now),
            id=job.id,
            description=job.description,
            cron=job.cron,
            steps=[StepDefinitionOut(name=step.name, after=list(step.after)) for step in job.steps],
            timeout_seconds=job.timeout_seconds,
            retries=job.retries,
            max_parallel_runs=job.max_parallel_runs,
            by_warehouse=job.by_warehouse,
        )


class RunIn(ApiModel):
    """What is to be run."""

    job: Annotated[str, Field(min_length=1, max_length=64)]
    interval_start: AwareDatetime
    interval_end: Annotated[AwareDatetime, Field(description="Not part of the interval.")]
    steps: Annotated[
        list[str] | None,
        Field(min_length=1, max_length=20, description="Some steps only. What they follow must have succeeded before."),
    ] = None
    full: Annotated[bool, Field(description="Replace the later dates, too, that follow from the interval's.")] = False
    warehouse_id: Annotated[
        WarehouseId | None, Field(description="Only this warehouse's partitions, where the job can do that.")
    ] = None
    retries: Annotated[int, Field(ge=0, le=10, description="How often a failed run is tried again by itself.")] = 0

    @model_validator(mode="after")
    def _has_an_interval(self) -> Self:
        if self.interval_start >= self.interval_end:
            raise ValueError("intervalStart must lie before intervalEnd")
        return self

    def asked_by(self, name: str) -> RunRequest:
        """The request, as somebody's."""
        return RunRequest(
            job=self.job,
            interval=Interval(self.interval_start, self.interval_end),
            requested_by=name,
            steps=None if self.steps is None else tuple(self.steps),
            parameters={"full": True} if self.full else {},
            max_attempts=self.retries + 1,
            warehouse_id=self.warehouse_id,
        )


class ProgressOut(ApiModel):
    """How far a step has come, in units of its own."""

    done: int
    total: int


class StepOut(ApiModel):
    """A step of a run."""

    name: str
    status: StepStatus
    attempt: int
    rows_in: int | None
    rows_out: int | None
    partitions: Annotated[list[str], Field(description="What was replaced, such as UTC dates.")]
    watermark_from: Annotated[int | None, Field(description="Transactions from this id on were read,")]
    watermark_to: Annotated[int | None, Field(description="and before this one.")]
    figures: dict[str, JsonValue]
    progress: ProgressOut | None
    cpu_seconds: float | None
    peak_memory_bytes: Annotated[int | None, Field(description="Of the process, until the step's end.")]
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    error: str | None

    @classmethod
    def of(cls, row: asyncpg.Record) -> Self:
        """A row of `run_step`."""
        same = {name: row[name] for name in cls.model_fields if name not in ("name", "status", "progress")}
        total = row["progress_total"]
        progress = None if total is None else ProgressOut(done=row["progress_done"], total=total)
        return cls(name=row["step"], status=StepStatus(row["status"]), progress=progress, **same)


class RunOut(ApiModel):
    """A run: a job, or some of its steps, over a data interval."""

    run_id: UUID
    job: str
    interval_start: AwareDatetime
    interval_end: AwareDatetime
    warehouse_id: Annotated[str | None, Field(description="The warehouse whose partitions are replaced; null for all.")]
    parameters: dict[str, JsonValue]
    status: RunStatus
    attempt: int
    max_attempts: int
    requested_by: str
    requested_at: AwareDatetime
    not_before: Annotated[AwareDatetime, Field(description="A queued run begins no earlier.")]
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    heartbeat_at: Annotated[AwareDatetime | None, Field(description="Last sign of life of its process.")]
    worker: str | None
    code_version: str | None
    cancel_requested_by: str | None
    error: str | None
    steps: list[StepOut]

    @classmethod
    def of(cls, row: asyncpg.Record, steps: Sequence[asyncpg.Record]) -> Self:
        """A row of `run` with its steps."""
        same = {name: row[name] for name in cls.model_fields if name not in ("status", "steps")}
        return cls(status=RunStatus(row["status"]), steps=[StepOut.of(step) for step in steps], **same)


class LogLineOut(RowModel):
    """A line of a run's log."""

    at: AwareDatetime
    attempt: int
    step: str | None
    level: str
    event: str
    fields: dict[str, Any]
