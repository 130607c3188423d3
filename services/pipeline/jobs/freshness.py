"""How old the data of a batch job are, and which of its intervals are due or late."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Self

from services.pipeline.jobs.job import Interval, Job


class Freshness(StrEnum):
    """Whether the data of a job are as new as `schedules.yaml` promises."""

    FRESH = "fresh"
    STALE = "stale"
    NEVER = "never"
    """The job has not succeeded for any interval yet."""


@dataclass(frozen=True, slots=True)
class Success:
    """An interval of which every step has succeeded."""

    interval: Interval
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where the schedule of a job begins: what lies before is left to backfills."""

    interval_start: datetime
    """Of the first interval that the schedule owes."""
    switched_on_at: datetime

    @classmethod
    def of(cls, job: Job, switched_on_at: datetime) -> Self:
        """The beginning of a schedule that is switched on now: with the latest interval."""
        [latest] = job.latest_intervals(switched_on_at, 1)
        return cls(latest.start, switched_on_at)


def lag(last_success: Success | None, now: datetime) -> timedelta | None:
    """The age of the data: the time since the end of the latest interval that succeeded; None if none has."""
    return None if last_success is None else now - last_success.interval.end


def freshness(job: Job, last_success: Success | None, now: datetime) -> Freshness:
    """Whether the age of the data is within the job's `freshness_seconds`."""
    age = lag(last_success, now)
    if age is None:
        return Freshness.NEVER
    return Freshness.FRESH if age.total_seconds() <= job.freshness_seconds else Freshness.STALE


def due(job: Job, begun: Collection[tuple[str, Interval]], beginning: Beginning, now: datetime) -> list[Interval]:
    """The scheduled intervals that are over and lie within none that was begun, oldest first.

    At most the latest `max_catchup`, and none before the job's beginning.
    """
    return [
        interval
        for interval in job.latest_intervals(now, job.max_catchup)
        if interval.start >= beginning.interval_start and not _is_covered(job, interval, begun)
    ]


def _is_covered(job: Job, interval: Interval, known: Collection[tuple[str, Interval]]) -> bool:
    return (job.id, interval) in known or any(its_job == job.id and it.covers(interval) for its_job, it in known)


def overdue(
    job: Job, succeeded: Collection[tuple[str, Interval]], beginning: Beginning, now: datetime
) -> list[Interval]:
    """The scheduled intervals that have not succeeded though their deadline has passed, oldest first.

    None while the job has not had that time since its schedule was switched on.
    """
    over_by = now - timedelta(seconds=job.deadline_seconds)
    if beginning.switched_on_at > over_by:
        return []
    return due(job, succeeded, beginning, over_by)


def last_closed_date(job: Job, now: datetime) -> date:
    """The latest date that an interval of the job has closed."""
    [latest] = job.latest_intervals(now, 1)
    return latest.end.date() - timedelta(days=1)


def closed_at(job: Job, day: date) -> datetime:
    """The end of the interval that closes a date: then its partition can be calculated as a whole."""
    midnight = datetime.combine(day, time(), UTC) + timedelta(days=1)
    return job.next_instant(midnight - timedelta(seconds=1))


def is_partition_late(job: Job, day: date, last_success: datetime | None, now: datetime) -> bool:
    """Whether the deadline for a date has passed without a success since the date was closed."""
    closed = closed_at(job, day)
    is_done = last_success is not None and last_success >= closed
    return not is_done and now > closed + timedelta(seconds=job.deadline_seconds)
