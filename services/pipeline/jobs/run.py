"""A run: one job, or some of its steps, over one data interval."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated
from uuid import UUID

from pydantic import Field, JsonValue
from pydantic_core import to_json

from services.pipeline.jobs.job import Interval

Key = Annotated[str, Field(min_length=1, max_length=512, description="Idempotency key, chosen by the caller.")]


class RunStatus(StrEnum):
    """What became of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to the run unless somebody asks for it."""
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING)


class StepStatus(StrEnum):
    """What became of a step."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class UnknownRun(Exception):
    """There is no such run."""


class IntervalNotOver(Exception):
    """The interval still goes on, or has not begun: what a run of it finds today is not what it will have held."""


class IntervalTooEarly(Exception):
    """The interval begins before the days that datasets count from."""


class RunInProgress(Exception):
    """A step that was asked for is being computed by a run that does not do all of what was asked for."""


class KeyReused(Exception):
    """The idempotency key was used before, for another request."""


class NotRetryable(Exception):
    """Only a failed or cancelled run can be tried again."""


class NotCancellable(Exception):
    """The run is over."""


class UpstreamMissing(Exception):
    """A step that comes before has not succeeded for this interval."""


class Fenced(Exception):
    """Others have taken this run for lost, or have begun it again: nothing more is written for this attempt."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What somebody wants to have run."""

    job: str
    interval: Interval
    requested_by: str
    steps: tuple[str, ...] | None = None
    """Some steps of the job only; what they follow must have succeeded for the interval before."""
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)
    max_attempts: int = 1
    warehouse_id: str | None = None
    """Only the partitions of this warehouse; None for all."""
    is_backfill: bool = False
    """One of many runs of a range: begun when no other run is due."""

    @property
    def digest(self) -> bytes:
        """The same for the same request, whoever makes it."""
        interval = (self.interval.start.astimezone(UTC), self.interval.end.astimezone(UTC))
        wanted = (self.job, *interval, self.steps, self.parameters, self.max_attempts, self.warehouse_id)
        return sha256(to_json(wanted)).digest()


@dataclass(frozen=True, slots=True)
class Started:
    """The run that does what was asked for."""

    run_id: UUID
    is_new: bool
    """False when the key was known, or when the work was going on already."""


@dataclass(frozen=True, slots=True)
class History:
    """What became of all runs of an interval together."""

    is_done: bool
    """Every step has succeeded, in one run or in several."""
    has_failed: bool
    """Of a step the latest run that is over did not succeed."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that this process alone executes, as long as the attempt is the latest."""

    run_id: UUID
    attempt: int
    job: str
    interval: Interval
    warehouse_id: str | None
    parameters: Mapping[str, JsonValue]
    steps: Mapping[str, StepStatus]
    requested_at: datetime


@dataclass(frozen=True, slots=True)
class Aborted:
    """An attempt that was ended from outside."""

    claim: Claim
    steps: tuple[str, ...]
    """Those that were running."""
    error: str | None
