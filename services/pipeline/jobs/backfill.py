"""Which intervals of a range are to be run again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from uuid import UUID

from pydantic_core import to_json

from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.run import History


class Which(StrEnum):
    """Intervals that are not done, those that a run has failed for since they were, or all."""

    MISSING = "missing"
    FAILED = "failed"
    ALL = "all"


class TooManyIntervals(Exception):
    """The range holds more intervals than may be asked for at once."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """The scheduled intervals of a job within [start, end], or some of them, to be run again."""

    job: str
    start: datetime
    end: datetime
    which: Which
    requested_by: str
    warehouse_id: str | None = None
    most: int | None = None
    """Of how many intervals the range may consist; None for any number."""

    @property
    def digest(self) -> bytes:
        """The same for the same backfill, whoever asks for it."""
        return sha256(to_json((self.job, self.start, self.end, self.which, self.warehouse_id))).digest()


@dataclass(frozen=True, slots=True)
class Filled:
    """What a backfill was answered with."""

    run_ids: Mapping[Interval, UUID]
    """The run of each interval, oldest first."""
    is_new: bool
    """False when the key was known."""


def wanted(intervals: Sequence[Interval], known: Mapping[Interval, History], which: Which) -> list[Interval]:
    """The intervals to run, in the given order; an interval is done, too, when it lies within a longer one that is."""
    done = [each for each, history in known.items() if history.is_done]
    match which:
        case Which.ALL:
            return list(intervals)
        case Which.FAILED:
            failed = [each for each in intervals if each in known and known[each].has_failed]
            return [each for each in failed if not any(longer != each and longer.covers(each) for longer in done)]
        case Which.MISSING:
            return [each for each in intervals if not any(longer.covers(each) for longer in done)]
