"""What the ledger says of whole jobs: where their schedules begin, and which of their intervals are done.

Runs of one warehouse do not count: they leave the other warehouses' part of the interval to be done.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from libs.chassis.database import Connection
from services.pipeline.jobs.freshness import Beginning, Success
from services.pipeline.jobs.job import Interval, Job, Step

SCHEDULER: Final = "scheduler"
"""Who asks for the runs that are due."""

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


async def switch_on(connection: Connection, beginnings: Mapping[str, Beginning]) -> None:
    """Keep where the schedules of these jobs begin; of one that began before, that stays."""
    await connection.executemany(
        "INSERT INTO job_schedule (job, interval_start, switched_on_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        [(job, it.interval_start, it.switched_on_at) for job, it in beginnings.items()],
    )


async def beginnings(connection: Connection) -> dict[str, Beginning]:
    """Job id -> where its schedule begins; without jobs whose schedule was never switched on."""
    rows = await connection.fetch("SELECT job, interval_start, switched_on_at FROM job_schedule")
    return {row["job"]: Beginning(row["interval_start"], row["switched_on_at"]) for row in rows}


async def first_start(connection: Connection, job: Job) -> datetime | None:
    """The start of the earliest interval that the job was ever run for, by whomever; None if it never was."""
    start: datetime | None = await connection.fetchval(
        "SELECT min(interval_start) FROM run WHERE job = $1 AND warehouse_id IS NULL", job.id
    )
    return start


async def begun_intervals(connection: Connection, jobs: Collection[Job], since: datetime) -> set[tuple[str, Interval]]:
    """Each (job, interval) that ends after `since` and that the scheduler has nothing to do for.

    Every step has succeeded, or a run is queued or running, or the scheduler has started it before: what became of
    that run is for its retries, and then for people, to mend. Other runs that failed or were cancelled do not count.
    """
    rows = await connection.fetch(
        f"""
        SELECT job, interval_start, interval_end FROM ({_DONE}) AS done WHERE interval_end > $3
         UNION
        SELECT job, interval_start, interval_end FROM run
         WHERE job = ANY($1) AND interval_end > $3 AND warehouse_id IS NULL
           AND (status IN ('queued', 'running') OR requested_by = $4)
        """,
        *_steps(jobs),
        since,
        SCHEDULER,
    )
    return {(row["job"], Interval(row["interval_start"], row["interval_end"])) for row in rows}


async def succeeded_intervals(
    connection: Connection, jobs: Collection[Job], since: datetime
) -> set[tuple[str, Interval]]:
    """Each (job, interval) that ends after `since` of which every step has succeeded."""
    rows = await connection.fetch(f"SELECT * FROM ({_DONE}) AS done WHERE interval_end > $3", *_steps(jobs), since)
    return {(row["job"], Interval(row["interval_start"], row["interval_end"])) for row in rows}


async def last_successes(connection: Connection, jobs: Collection[Job]) -> dict[str, Success]:
    """Job id -> the latest interval of which every step has succeeded; without jobs that never have.

    Looks back from the latest interval of the last step, and no further than needed.
    """
    rows = await connection.fetch(
        """
        SELECT job, latest.*
          FROM (SELECT job, array_agg(step) AS steps FROM unnest($1::text[], $2::text[]) AS defined(job, step)
                 GROUP BY job) AS wanted
          CROSS JOIN LATERAL (
               SELECT last.interval_start, last.interval_end, done.finished_at
                 FROM run_step AS last
                 CROSS JOIN LATERAL (
                      SELECT max(finished_at) AS finished_at FROM run_step AS each
                       WHERE job = wanted.job AND step = ANY(steps) AND status = 'succeeded' AND warehouse_id IS NULL
                         AND (each.interval_start, each.interval_end) = (last.interval_start, last.interval_end)
                      HAVING count(DISTINCT step) = cardinality(steps)) AS done
                WHERE job = wanted.job AND step = steps[cardinality(steps)] AND status = 'succeeded'
                  AND warehouse_id IS NULL
                ORDER BY last.interval_end DESC, last.interval_start LIMIT 1) AS latest
        """,
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
