"""What the run ledger says of whole jobs: where they began, and which of their intervals are done.

Runs of one warehouse do not count: they leave the other warehouses' part of the interval to be done.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

from libs.chassis.database import Connection
from services.pipeline.jobs.freshness import Beginning, Success
from services.pipeline.jobs.job import Interval, Job, Step


async def beginnings(connection: Connection, jobs: Collection[str]) -> dict[str, Beginning]:
    """Job id -> where its history begins; without jobs that were never started."""
    rows = await connection.fetch(
        """
        SELECT job, earliest.interval_start, first.requested_at
          FROM unnest($1::text[]) AS asked(job)
         CROSS JOIN LATERAL (SELECT interval_start FROM run WHERE run.job = asked.job AND warehouse_id IS NULL
                              ORDER BY interval_start LIMIT 1) AS earliest
         CROSS JOIN LATERAL (SELECT requested_at FROM run WHERE run.job = asked.job AND warehouse_id IS NULL
                              ORDER BY requested_at LIMIT 1) AS first
        """,
        list(jobs),
    )
    return {row["job"]: Beginning(row["interval_start"], row["requested_at"]) for row in rows}


async def begun_intervals(connection: Connection, since: Mapping[str, datetime]) -> set[tuple[str, Interval]]:
    """Each (job, interval) that was ever started, whatever became of it: job id -> the earliest start of interest."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT job, interval_start, interval_end
          FROM unnest($1::text[], $2::timestamptz[]) AS asked(job, since) JOIN run USING (job)
         WHERE interval_start >= since AND warehouse_id IS NULL
        """,
        list(since),
        list(since.values()),
    )
    return {(row["job"], Interval(row["interval_start"], row["interval_end"])) for row in rows}


_DONE = """
    SELECT job, interval_start, interval_end, max(finished_at) AS finished_at
      FROM (SELECT job, step, count(*) OVER (PARTITION BY job) AS steps
              FROM unnest($1::text[], $2::text[]) AS defined(job, step)) AS wanted
      JOIN run_step USING (job, step)
     WHERE run_step.status = 'succeeded' AND warehouse_id IS NULL
     GROUP BY job, steps, interval_start, interval_end HAVING count(DISTINCT step) = steps
"""
"""Intervals of which every step has succeeded once, in one run or in several. What came after took nothing away: a
step that fails leaves what was there."""


async def succeeded_intervals(
    connection: Connection, jobs: Collection[Job], since: datetime
) -> set[tuple[str, Interval]]:
    """Each (job, interval) from `since` on of which every step has succeeded."""
    rows = await connection.fetch(f"SELECT * FROM ({_DONE}) AS done WHERE interval_start >= $3", *_steps(jobs), since)
    return {(row["job"], Interval(row["interval_start"], row["interval_end"])) for row in rows}


async def last_successes(connection: Connection, jobs: Collection[Job]) -> dict[str, Success]:
    """Job id -> the latest interval of which every step has succeeded; without jobs that never have."""
    rows = await connection.fetch(
        f"SELECT DISTINCT ON (job) * FROM ({_DONE}) AS done ORDER BY job, interval_end DESC, interval_start",
        *_steps(jobs),
    )
    return {
        row["job"]: Success(Interval(row["interval_start"], row["interval_end"]), row["finished_at"]) for row in rows
    }


async def last_step_success(connection: Connection, job: Job, step: Step) -> datetime | None:
    """When a step last succeeded; None if it never has."""
    finished_at: datetime | None = await connection.fetchval(
        """
        SELECT max(finished_at) FROM run_step
         WHERE job = $1 AND step = $2 AND status = 'succeeded' AND warehouse_id IS NULL
        """,
        job.id,
        step.name,
    )
    return finished_at


def _steps(jobs: Collection[Job]) -> tuple[list[str], list[str]]:
    return [job.id for job in jobs for _ in job.steps], [step.name for job in jobs for step in job.steps]


async def try_to_lead(connection: Connection) -> bool:
    """Whether this session is the one that schedules; it stays so until the connection ends."""
    return bool(await connection.fetchval("SELECT pg_try_advisory_lock(hashtext('pipeline scheduler'))"))
