"""What a step of a batch job is given, and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol
from uuid import UUID

from pydantic import JsonValue

from libs.chassis.database import Pool
from services.pipeline.jobs.job import Interval, Job, Step
from services.pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step read and replaced; stored with the run, and given to the steps that follow."""

    rows_in: int = 0
    rows_out: int = 0
    partitions: tuple[str, ...] = ()
    """What was replaced, such as UTC dates in ISO form."""
    watermark_from: int | None = None
    watermark_to: int | None = None
    """The step read what transactions with watermark_from <= xid < watermark_to wrote."""
    figures: Mapping[str, JsonValue] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    """Datasets, for the lineage: `postgres:inventory.ledger_entries_v1`, `lake:item_days`, ..."""
    writes: Mapping[str, int | None] = field(default_factory=dict)
    """Dataset -> rows put into it; None where rows went, or where nobody has counted them."""


class Log(Protocol):
    """Writes a line into the log of the run and of the process: a constant event name, and fields."""

    def __call__(self, event: str, *, level: str = "info", **fields: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a step may use. What takes longer than a moment runs in a thread: `await asyncio.to_thread(...)`."""

    run_id: UUID
    attempt: int
    job: Job
    step: Step
    interval: Interval
    warehouse_id: str | None
    """Only this warehouse's partitions are to be replaced; None for all."""
    parameters: Mapping[str, JsonValue]
    upstream: Mapping[str, StepResult]
    """Results of the steps that this one follows, of this run or of the latest one of the same interval."""
    pool: Pool
    settings: Settings
    progress: Callable[[int, int], None]
    """Call it with what is done and what there is to do, in any unit; safe from any thread."""
    log: Log


class StepFunction(Protocol):
    """Replaces the partitions of the interval: running it again gives the same rows."""

    async def __call__(self, context: Context, /) -> StepResult: ...


def function_of(job: Job, step: Step) -> StepFunction:
    """The function of a step: only here is the code of a job imported, and what heavy libraries it needs."""
    function: StepFunction = getattr(import_module(f"services.pipeline.jobs.{job.id}"), step.name)
    return function
