"""How fresh each date of each dataset is that the batch jobs keep."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Self
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field
from sqlalchemy import Date, Integer, and_, func, literal, select, type_coerce, union

from libs.chassis.database import ReadConnection, fetch_all
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging, keyset
from libs.chassis.problems import RefusalMap
from services.pipeline.jobs import freshness, schedule_queries
from services.pipeline.jobs.job import Job, UnknownDataset, writer_of
from services.pipeline.routes.access import Reader, check_warehouse
from services.pipeline.tables import dataset_partition, partition_quality

REFUSALS: RefusalMap = {UnknownDataset: (404, "not-found")}
FIRST_OF_1970 = date(1970, 1, 1)

router = APIRouter(prefix="/api/v1/datasets", tags=["runs"])


class PartitionOut(ApiModel):
    """One UTC date of a dataset."""

    date: date
    rows: Annotated[int | None, Field(description="null: the date has never been calculated.")]
    replaced_at: AwareDatetime | None
    run_id: Annotated[UUID | None, Field(description="The run that replaced it: its steps tell duration, CPU, memory.")]
    last_success_at: Annotated[
        AwareDatetime | None,
        Field(description="When a run last replaced the partition, or found nothing newer to replace it by."),
    ]
    age_seconds: Annotated[float | None, Field(description="Since the last success.")]
    deadline_at: Annotated[AwareDatetime, Field(description="When there must be a success since the date was over.")]
    is_late: bool
    quality: Annotated[str | None, Field(description="passed, or failed: published views leave the date out.")]

    @classmethod
    def of(cls, row: asyncpg.Record, job: Job, step_success: datetime | None, now: datetime) -> Self:
        """A date of a dataset that `job` keeps; its step last succeeded at `step_success`."""
        day, replaced_at = FIRST_OF_1970 + timedelta(days=row["day"]), row["replaced_at"]
        last = None if replaced_at is None else max(replaced_at, step_success or replaced_at)
        return cls(
            date=day,
            rows=row["rows"],
            replaced_at=replaced_at,
            run_id=row["run_id"],
            last_success_at=last,
            age_seconds=None if last is None else (now - last).total_seconds(),
            deadline_at=freshness.closed_at(job, day) + timedelta(seconds=job.deadline_seconds),
            is_late=freshness.is_partition_late(job, day, last, now),
            quality=row["status"],
        )


@router.get("/{dataset}/partitions")
async def list_partitions(
    dataset: str,
    connection: ReadConnection,
    paging: Paging,
    principal: Reader,
    date_from: Annotated[date | None, Query(alias="dateFrom", description="First UTC date.")] = None,
    date_to: Annotated[date | None, Query(alias="dateTo", description="Last UTC date.")] = None,
) -> Page[PartitionOut]:
    """The dates of a dataset, the latest first, with those that its job owes since it first ran."""
    check_warehouse(principal, None)
    job, step = writer_of(dataset)
    now = datetime.now(UTC)
    first = await schedule_queries.first_start(connection, job)
    last_success = await schedule_queries.last_step_success(connection, job, step)

    known = dataset_partition.c.date - literal(FIRST_OF_1970, Date)
    days = select(type_coerce(known, Integer).label("day")).where(dataset_partition.c.dataset == dataset)
    if first is not None:
        owed = (_day(first.astimezone(UTC).date()), _day(freshness.last_closed_date(job, now)))
        days = union(days, select(func.generate_series(*owed).label("day")))  # type: ignore[assignment]
    day = days.subquery().c.day
    day_date = literal(FIRST_OF_1970, Date) + day
    statement = (
        select(
            day,
            dataset_partition.c.rows,
            dataset_partition.c.replaced_at,
            dataset_partition.c.run_id,
            partition_quality.c.status,
        )
        .outerjoin(
            dataset_partition, and_(dataset_partition.c.dataset == dataset, dataset_partition.c.date == day_date)
        )
        .outerjoin(partition_quality, partition_quality.c.date == day_date)
    )
    if date_from is not None:
        statement = statement.where(day >= _day(date_from))
    if date_to is not None:
        statement = statement.where(day <= _day(date_to))
    rows = await fetch_all(connection, keyset(statement, [day.desc()], paging))
    return paging.page(rows, ["day"], lambda row: PartitionOut.of(row, job, last_success, now))


def _day(day: date) -> int:
    return (day - FIRST_OF_1970).days
