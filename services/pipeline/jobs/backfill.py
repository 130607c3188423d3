"""Which intervals of a range are to be run again."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.run import RunStatus


class Which(StrEnum):
    """Intervals without any run, those whose latest run failed, or all."""

    MISSING = "missing"
    FAILED = "failed"
    ALL = "all"


def wanted(intervals: Sequence[Interval], known: Mapping[Interval, RunStatus], which: Which) -> list[Interval]:
    """The intervals to run, in the given order; `known` tells what became of the latest run of each."""
    match which:
        case Which.ALL:
            return list(intervals)
        case Which.FAILED:
            return [each for each in intervals if known.get(each) in (RunStatus.FAILED, RunStatus.CANCELLED)]
        case Which.MISSING:
            return [each for each in intervals if each not in known]
