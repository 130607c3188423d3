"""What a batch job is: steps in order, over a data interval. `schedules.yaml` lists them all."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import islice, pairwise, takewhile
from pathlib import Path
from typing import Annotated, Final, Self

import yaml
from cronsim import CronSim
from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEDULES: Final = Path(__file__).with_name("schedules.yaml")
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class UnknownDataset(Exception):
    """No job keeps such a dataset."""


class UnknownJob(Exception):
    """There is no such job, or the job has no such step."""


class NotByWarehouse(Exception):
    """The job's datasets cannot be replaced for one warehouse alone."""


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """The data interval [start, end) of a run, in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a data interval has UTC instants")
        if self.start >= self.end:
            raise ValueError(f"the data interval [{self.start}, {self.end}) is empty")

    def covers(self, other: "Interval") -> bool:
        """Whether the other lies within this one."""
        return self.start <= other.start and other.end <= self.end

    def dates(self) -> list[date]:
        """The UTC dates of which the interval holds a part."""
        first, last = self.start.astimezone(UTC).date(), (self.end.astimezone(UTC) - timedelta(microseconds=1)).date()
        return [first + timedelta(days=day) for day in range((last - first).days + 1)]

    def closed_dates(self) -> list[date]:
        """The UTC dates that end within the interval: `02:00 to 02:00` closes one date, a calendar day itself."""
        first, last = (self.start.astimezone(UTC)).date(), (self.end.astimezone(UTC)).date() - timedelta(days=1)
        return [first + timedelta(days=day) for day in range((last - first).days + 1)]

    def __str__(self) -> str:
        return f"[{self.start:%Y-%m-%dT%H:%M:%SZ}, {self.end:%Y-%m-%dT%H:%M:%SZ})"


class _Definition(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(_Definition):
    """A step of a job: the function `name` of the module `services.pipeline.jobs.<job>`."""

    name: Name
    after: tuple[Name, ...] = ()
    datasets: tuple[str, ...] = ()


class Job(_Definition):
    """A batch job as `schedules.yaml` describes it."""

    id: Name
    description: str
    cron: str
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    timeout_seconds: Annotated[int, Field(gt=0)] = 3600
    retries: Annotated[int, Field(ge=0)] = 0
    retry_delay_seconds: Annotated[int, Field(ge=0)] = 60
    max_parallel_runs: Annotated[int, Field(ge=1)] = 1
    max_catchup: Annotated[int, Field(ge=1)] = 1
    deadline_seconds: Annotated[int, Field(gt=0)] = 7200
    freshness_seconds: Annotated[int, Field(gt=0)] = 100_800
    by_warehouse: bool = False

    @model_validator(mode="after")
    def _steps_follow_known_steps(self) -> Self:
        before: set[str] = set()
        for step in self.steps:
            if step.name in before:
                raise ValueError(f"{self.id} has two steps {step.name}")
            if unknown := set(step.after) - before:
                raise ValueError(f"{self.id}: {step.name} follows {', '.join(sorted(unknown))}, not a step before it")
            before.add(step.name)
        return self

    def intervals(self, since: datetime, until: datetime, most: int | None = None) -> list[Interval]:
        """The scheduled intervals that lie within [since, until], oldest first; only the first `most` if given."""
        instants = CronSim(self.cron, since.astimezone(UTC) - timedelta(seconds=1))
        within = pairwise(takewhile(lambda instant: instant <= until, instants))
        return [Interval(start, end) for start, end in islice(within, most)]

    def latest_intervals(self, until: datetime, count: int) -> list[Interval]:
        """The last `count` scheduled intervals that are over at `until`, oldest first."""
        second = until.astimezone(UTC).replace(microsecond=0)
        backwards = CronSim(self.cron, second + timedelta(seconds=1), reverse=True)
        instants = list(islice(backwards, count + 1))
        return [Interval(start, end) for start, end in pairwise(reversed(instants))]

    def next_instant(self, after: datetime) -> datetime:
        """When the interval that is open at `after` is over, and the next scheduled run begins."""
        return next(CronSim(self.cron, after.astimezone(UTC)))

    def select(self, names: Collection[str] | None) -> tuple[Step, ...]:
        """The named steps in order, all by default. Raises UnknownJob for a name that is no step."""
        if names is None:
            return self.steps
        if unknown := sorted(set(names) - {step.name for step in self.steps}):
            raise UnknownJob(f"{self.id} has no step {', '.join(unknown)}")
        return tuple(step for step in self.steps if step.name in names)


class _Schedules(_Definition):
    jobs: tuple[Job, ...]


def read(path: Path) -> Mapping[str, Job]:
    """Job id -> job, as the file lists them. Raises when the file is not as it should be."""
    schedules = _Schedules.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    jobs = {job.id: job for job in schedules.jobs}
    if len(jobs) < len(schedules.jobs):
        raise ValueError(f"{path.name} lists a job twice")
    return jobs


@cache
def jobs() -> Mapping[str, Job]:
    """Job id -> job, as `schedules.yaml` lists them."""
    return read(SCHEDULES)


def find(job_id: str) -> Job:
    """The job of that id. Raises UnknownJob."""
    try:
        return jobs()[job_id]
    except KeyError:
        raise UnknownJob(f"there is no job {job_id}; there are {', '.join(jobs())}") from None


def writer_of(dataset: str) -> tuple[Job, Step]:
    """The job and step that replace the partitions of a dataset. Raises UnknownDataset."""
    for job in jobs().values():
        for step in job.steps:
            if dataset in step.datasets:
                return job, step
    raise UnknownDataset(f"no job keeps a dataset {dataset}")
