"""The run ledger: one statement per function."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from libs.chassis.database import Connection
from services.pipeline.jobs.job import Interval, Job
from services.pipeline.jobs.run import Claim, History, RunRequest, StepStatus
from services.pipeline.jobs.step import StepResult


async def now(connection: Connection) -> datetime:
    """When this transaction began, by the clock that all processes share: Postgres'."""
    began_at: datetime = await connection.fetchval("SELECT now()")
    return began_at


async def lock_ledger(connection: Connection) -> None:
    """Let nobody else start or claim runs until this transaction ends, so that limits and attachment are exact."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('pipeline run ledger'))")


async def runs_of_key(connection: Connection, key: str) -> list[asyncpg.Record]:
    """The runs that an idempotency key stands for, oldest interval first, and the request_hash of the request."""
    return await connection.fetch(
        """
        SELECT run_id, interval_start, interval_end, request_hash FROM run_request JOIN run USING (run_id)
         WHERE idempotency_key = $1 ORDER BY interval_start, interval_end
        """,
        key,
    )


async def insert_key(connection: Connection, key: str, run_ids: Collection[UUID], digest: bytes) -> None:
    """Remember which runs answered a key."""
    await connection.execute(
        "INSERT INTO run_request (idempotency_key, run_id, request_hash) SELECT $1, unnest($2::uuid[]), $3",
        key,
        list(run_ids),
        digest,
    )


async def active_runs(
    connection: Connection, job: str, intervals: Collection[Interval], warehouse_id: str | None
) -> list[asyncpg.Record]:
    """Runs of these very intervals and of the warehouse that are queued or running, those of most steps last.

    Their interval_start, interval_end, run_id, parameters and steps.
    """
    return await connection.fetch(
        """
        SELECT run.interval_start, run.interval_end, run_id, run.parameters, array_agg(step) AS steps
          FROM run JOIN run_step USING (run_id)
         WHERE run.job = $1 AND run.warehouse_id IS NOT DISTINCT FROM $4 AND run.status IN ('queued', 'running')
           AND (run.interval_start, run.interval_end) IN (SELECT * FROM unnest($2::timestamptz[], $3::timestamptz[]))
         GROUP BY run_id ORDER BY count(*), run_id
        """,
        job,
        [interval.start for interval in intervals],
        [interval.end for interval in intervals],
        warehouse_id,
    )


async def insert_runs(connection: Connection, requests: Mapping[UUID, RunRequest]) -> None:
    """Queue runs: run_id -> what it is to do."""
    await connection.execute(
        """
        INSERT INTO run (run_id, job, interval_start, interval_end, warehouse_id, parameters, max_attempts,
                         requested_by, is_backfill)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::jsonb[],
                             $7::int[], $8::text[], $9::boolean[])
        """,
        list(requests),
        [request.job for request in requests.values()],
        [request.interval.start for request in requests.values()],
        [request.interval.end for request in requests.values()],
        [request.warehouse_id for request in requests.values()],
        [dict(request.parameters) for request in requests.values()],
        [request.max_attempts for request in requests.values()],
        [request.requested_by for request in requests.values()],
        [request.is_backfill for request in requests.values()],
    )


async def insert_steps(connection: Connection, run_ids: Collection[UUID], steps: Sequence[str]) -> None:
    """Queue the steps, in order, of each of these runs."""
    await connection.execute(
        """
        INSERT INTO run_step (run_id, step, position, job, interval_start, interval_end, warehouse_id)
        SELECT run_id, step, position, job, interval_start, interval_end, warehouse_id
          FROM run CROSS JOIN unnest($2::text[]) WITH ORDINALITY AS wanted(step, position)
         WHERE run_id = ANY($1)
        """,
        list(run_ids),
        list(steps),
    )


async def claim_next(connection: Connection, limits: Mapping[str, int], worker: str, version: str) -> Claim | None:
    """Begin the queued run that waits longest among those whose job runs fewer than its limit; None if there is none.

    Runs of backfills wait until no other is due. Call `lock_ledger` before.
    """
    row = await connection.fetchrow(
        """
        UPDATE run
           SET status = 'running', attempt = attempt + 1, worker = $3, code_version = $4, heartbeat_at = now(),
               started_at = now(), finished_at = NULL, error = NULL
         WHERE run_id = (
               SELECT run_id
                 FROM run AS waiting JOIN unnest($1::text[], $2::int[]) AS known(job, most) USING (job)
                WHERE status = 'queued' AND not_before <= now()
                  AND most > (SELECT count(*) FROM run AS busy WHERE busy.job = waiting.job AND busy.status = 'running')
                ORDER BY is_backfill, requested_at, interval_start, run_id LIMIT 1)
        RETURNING *
        """,
        list(limits),
        list(limits.values()),
        worker,
        version,
    )
    return None if row is None else await _claim(connection, row)


async def claim_run(connection: Connection, run_id: UUID, limit: int, worker: str, version: str) -> Claim | None:
    """Begin one queued run; None when it is not queued, or its job runs `limit` times already.

    Call `lock_ledger` before.
    """
    row = await connection.fetchrow(
        """
        UPDATE run
           SET status = 'running', attempt = attempt + 1, worker = $3, code_version = $4, heartbeat_at = now(),
               started_at = now(), finished_at = NULL, error = NULL
         WHERE run_id = $1 AND status = 'queued'
           AND $2 > (SELECT count(*) FROM run AS busy WHERE busy.job = run.job AND busy.status = 'running')
        RETURNING *
        """,
        run_id,
        limit,
        worker,
        version,
    )
    return None if row is None else await _claim(connection, row)


async def claimed(connection: Connection, run_id: UUID, attempt: int) -> Claim | None:
    """What another process has claimed for this one to execute; None when the attempt is fenced."""
    row = await connection.fetchrow(
        "SELECT * FROM run WHERE run_id = $1 AND attempt = $2 AND status = 'running'", run_id, attempt
    )
    return None if row is None else await _claim(connection, row)


async def _claim(connection: Connection, row: asyncpg.Record) -> Claim:
    steps = await connection.fetch(
        "SELECT step, status FROM run_step WHERE run_id = $1 ORDER BY position", row["run_id"]
    )
    return Claim(
        run_id=row["run_id"],
        attempt=row["attempt"],
        job=row["job"],
        interval=Interval(row["interval_start"], row["interval_end"]),
        warehouse_id=row["warehouse_id"],
        parameters=row["parameters"],
        steps={step["step"]: StepStatus(step["status"]) for step in steps},
        requested_at=row["requested_at"],
    )


async def beat(connection: Connection, run_id: UUID, attempt: int) -> asyncpg.Record | None:
    """Give a sign of life; who asked for the end of the run, if anybody. None when the attempt is fenced."""
    return await connection.fetchrow(
        """
        UPDATE run SET heartbeat_at = now() WHERE run_id = $1 AND attempt = $2 AND status = 'running'
        RETURNING cancel_requested_by
        """,
        run_id,
        attempt,
    )


async def lock_attempt(connection: Connection, run_id: UUID, attempt: int) -> bool:
    """Whether the attempt is still the one that counts; it stays so until this transaction ends."""
    return bool(
        await connection.fetchval(
            "SELECT true FROM run WHERE run_id = $1 AND attempt = $2 AND status = 'running' FOR NO KEY UPDATE",
            run_id,
            attempt,
        )
    )


async def has_begun(connection: Connection, run_id: UUID, attempt: int) -> bool:
    """Whether the attempt has begun a step."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM run_step WHERE run_id = $1 AND attempt = $2)", run_id, attempt
        )
    )


async def lost_runs(connection: Connection, silent_seconds: float) -> list[Claim]:
    """The claims whose process has given no sign of life for so long, and can give none until this transaction ends."""
    rows = await connection.fetch(
        """
        SELECT * FROM run
         WHERE status = 'running' AND heartbeat_at < now() - make_interval(secs => $1)
         ORDER BY run_id FOR NO KEY UPDATE
        """,
        silent_seconds,
    )
    return [await _claim(connection, row) for row in rows]


async def begin_step(connection: Connection, run_id: UUID, step: str, attempt: int) -> None:
    """Mark a step as running."""
    await connection.execute(
        """
        UPDATE run_step
           SET status = 'running', attempt = $3, started_at = now(), finished_at = NULL, error = NULL,
               progress_done = NULL, progress_total = NULL
         WHERE run_id = $1 AND step = $2
        """,
        run_id,
        step,
        attempt,
    )


async def write_progress(connection: Connection, run_id: UUID, progress: Mapping[str, tuple[int, int]]) -> None:
    """Store how far steps have come: step -> (done, total)."""
    await connection.execute(
        """
        UPDATE run_step SET progress_done = done, progress_total = total
          FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS reached(name, done, total)
         WHERE run_id = $1 AND step = name
        """,
        run_id,
        list(progress),
        [done for done, _ in progress.values()],
        [total for _, total in progress.values()],
    )


async def end_step(
    connection: Connection,
    run_id: UUID,
    step: str,
    status: StepStatus,
    *,
    result: StepResult | None = None,
    error: str | None = None,
    cpu_seconds: float | None = None,
    peak_memory_bytes: int | None = None,
) -> None:
    """Store what became of a step."""
    stored = asdict(result or StepResult())
    await connection.execute(
        """
        UPDATE run_step
           SET status = $3, error = $4, cpu_seconds = $5, peak_memory_bytes = $6, rows_in = $7, rows_out = $8,
               partitions = $9, watermark_from = $10, watermark_to = $11, figures = $12, finished_at = now()
         WHERE run_id = $1 AND step = $2
        """,
        run_id,
        step,
        status,
        error,
        cpu_seconds,
        peak_memory_bytes,
        stored["rows_in"],
        stored["rows_out"],
        list(stored["partitions"]),
        stored["watermark_from"],
        stored["watermark_to"],
        dict(stored["figures"]),
    )


async def end_run(
    connection: Connection, run_id: UUID, attempt: int, status: str, error: str | None, retry_delay_seconds: int
) -> str | None:
    """Store the end of a running attempt; the status it now has, None when the attempt is fenced.

    A failed run with attempts left is queued again, to begin after the delay. One that is to be queued whatever its
    attempts may be begun once more for that, unless its end was asked for: then it is cancelled.
    """
    ended: str | None = await connection.fetchval(
        """
        UPDATE run
           SET status = CASE WHEN $3 = 'failed' AND attempt < max_attempts AND cancel_requested_by IS NULL
                             THEN 'queued'
                             WHEN $3 = 'queued' AND cancel_requested_by IS NOT NULL THEN 'cancelled'
                             ELSE $3 END,
               max_attempts = max_attempts + CASE $3 WHEN 'queued' THEN 1 ELSE 0 END,
               not_before = now() + make_interval(secs => $5), error = $4, finished_at = now(), worker = NULL
         WHERE run_id = $1 AND attempt = $2 AND status = 'running'
        RETURNING status
        """,
        run_id,
        attempt,
        status,
        error,
        retry_delay_seconds,
    )
    return ended


async def close_steps(connection: Connection, run_id: UUID, running_become: StepStatus, error: str | None) -> None:
    """End the steps of a run that has ended: what was running as given, what waited is skipped."""
    await connection.execute(
        """
        UPDATE run_step
           SET status = CASE status WHEN 'running' THEN $2 ELSE 'skipped' END,
               error = CASE status WHEN 'running' THEN $3 END, finished_at = now()
         WHERE run_id = $1 AND status IN ('queued', 'running')
        """,
        run_id,
        running_become,
        error,
    )


async def requeue_steps(connection: Connection, run_id: UUID) -> None:
    """Queue what has not succeeded once more. A unique violation means that others compute one of the steps."""
    await connection.execute(
        "UPDATE run_step SET status = 'queued' WHERE run_id = $1 AND status <> 'succeeded'", run_id
    )


async def requeue_run(connection: Connection, run_id: UUID) -> bool:
    """Queue a failed or cancelled run once more, with one more attempt allowed; False if it is neither."""
    status = await connection.execute(
        """
        UPDATE run SET status = 'queued', max_attempts = greatest(max_attempts, attempt + 1), not_before = now(),
                       cancel_requested_by = NULL
         WHERE run_id = $1 AND status IN ('failed', 'cancelled')
        """,
        run_id,
    )
    return status == "UPDATE 1"


async def request_cancel(connection: Connection, run_id: UUID, by: str) -> str | None:
    """Ask for the end of a run; its status if it was queued or running. A queued one is cancelled at once."""
    before: str | None = await connection.fetchval(
        "SELECT status FROM run WHERE run_id = $1 AND status IN ('queued', 'running') FOR UPDATE", run_id
    )
    await connection.execute(
        """
        UPDATE run
           SET cancel_requested_by = $2, status = CASE status WHEN 'queued' THEN 'cancelled' ELSE status END,
               finished_at = CASE status WHEN 'queued' THEN now() END
         WHERE run_id = $1 AND status IN ('queued', 'running')
        """,
        run_id,
        by,
    )
    return before


async def find_run(connection: Connection, run_id: UUID) -> asyncpg.Record | None:
    """A run, or None."""
    return await connection.fetchrow("SELECT * FROM run WHERE run_id = $1", run_id)


async def steps_of(connection: Connection, run_ids: Collection[UUID]) -> list[asyncpg.Record]:
    """The steps of runs, in order."""
    return await connection.fetch(
        "SELECT * FROM run_step WHERE run_id = ANY($1) ORDER BY run_id, position", list(run_ids)
    )


async def latest_results(
    connection: Connection, job: str, interval: Interval, warehouse_id: str | None, steps: Collection[str]
) -> dict[str, StepResult]:
    """The latest result of each step for this very interval and warehouse, where it ever succeeded."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (step) step, rows_in, rows_out, partitions, watermark_from, watermark_to, figures
          FROM run_step
         WHERE job = $1 AND interval_start = $2 AND interval_end = $3 AND step = ANY($4) AND status = 'succeeded'
           AND warehouse_id IS NOT DISTINCT FROM $5
         ORDER BY step, finished_at DESC
        """,
        job,
        interval.start,
        interval.end,
        list(steps),
        warehouse_id,
    )
    return {
        row["step"]: StepResult(
            rows_in=row["rows_in"],
            rows_out=row["rows_out"],
            partitions=tuple(row["partitions"]),
            watermark_from=row["watermark_from"],
            watermark_to=row["watermark_to"],
            figures=row["figures"],
        )
        for row in rows
    }


async def append_logs(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add log lines: (run_id, at, attempt, step, level, event, fields)."""
    await connection.executemany(
        "INSERT INTO run_log (run_id, at, attempt, step, level, event, fields) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        rows,
    )


async def logs_of(connection: Connection, run_id: UUID, limit: int) -> list[asyncpg.Record]:
    """The latest lines of a run's log, in order."""
    return await connection.fetch(
        """
        SELECT * FROM (SELECT * FROM run_log WHERE run_id = $1 ORDER BY id DESC LIMIT $2) AS latest ORDER BY id
        """,
        run_id,
        limit,
    )


async def latest_runs(connection: Connection, job: str | None, status: str | None, limit: int) -> list[asyncpg.Record]:
    """Runs of a job and status, of all by default, the latest first."""
    return await connection.fetch(
        """
        SELECT * FROM run WHERE job = coalesce($1, job) AND status = coalesce($2, status)
         ORDER BY requested_at DESC, run_id DESC LIMIT $3
        """,
        job,
        status,
        limit,
    )


async def delete_older_logs(connection: Connection, days: int) -> int:
    """Delete what runs have logged that ended so many days ago; how many lines."""
    deleted = await connection.execute(
        """
        DELETE FROM run_log USING run
         WHERE run_log.run_id = run.run_id AND run.status IN ('succeeded', 'failed', 'cancelled')
           AND run.finished_at < now() - make_interval(days => $1)
        """,
        days,
    )
    return int(deleted.split()[-1])


async def delete_older(connection: Connection, days: int) -> int:
    """Delete the runs that ended so many days ago and that nothing depends on any more; how many.

    Of each interval and warehouse the latest success of each step stays, and the latest run of each step that each has
    asked for: so what is done, what has failed, what later steps are given and what the scheduler has started. The runs
    that have replaced, checked or quarantined what is kept of a date stay, too. Idempotency keys go with their runs.
    """
    deleted = await connection.execute(
        """
        WITH kept AS (
            (SELECT DISTINCT ON (job, step, interval_start, interval_end, warehouse_id) run_id
               FROM run_step WHERE status = 'succeeded'
              ORDER BY job, step, interval_start, interval_end, warehouse_id, finished_at DESC)
             UNION
            (SELECT DISTINCT ON (run.job, step, run.interval_start, run.interval_end, run.warehouse_id, requested_by)
                    run_id
               FROM run JOIN run_step USING (run_id)
              ORDER BY run.job, step, run.interval_start, run.interval_end, run.warehouse_id, requested_by,
                       requested_at DESC, run_id DESC)
             UNION SELECT run_id FROM dataset_partition
             UNION SELECT run_id FROM partition_quality
             UNION SELECT run_id FROM quarantine)
        DELETE FROM run
         WHERE status IN ('succeeded', 'failed', 'cancelled') AND finished_at < now() - make_interval(days => $1)
           AND NOT EXISTS (SELECT FROM kept WHERE kept.run_id = run.run_id)
        """,
        days,
    )
    return int(deleted.split()[-1])


async def history(
    connection: Connection, job: Job, since: datetime, until: datetime, warehouse_id: str | None
) -> dict[Interval, History]:
    """What became of each interval of a job that had runs and touches [since, until], of all or of one warehouse."""
    rows = await connection.fetch(
        """
        SELECT interval_start, interval_end, sum(has_succeeded::int) = cardinality($5::text[]) AS is_done,
               coalesce(bool_or(has_failed), false) AS has_failed
          FROM (SELECT interval_start, interval_end, step, bool_or(run_step.status = 'succeeded') AS has_succeeded,
                       (array_agg(run_step.status <> 'succeeded' ORDER BY run_step.finished_at DESC)
                           FILTER (WHERE run.status IN ('succeeded', 'failed', 'cancelled')))[1] AS has_failed
                  FROM run JOIN run_step USING (run_id, job, interval_start, interval_end)
                 WHERE job = $1 AND interval_end > $2 AND interval_start < $3
                   AND run.warehouse_id IS NOT DISTINCT FROM $4 AND step = ANY($5)
                 GROUP BY interval_start, interval_end, step) AS latest
         GROUP BY interval_start, interval_end
        """,
        job.id,
        since,
        until,
        warehouse_id,
        [step.name for step in job.steps],
    )
    return {
        Interval(row["interval_start"], row["interval_end"]): History(row["is_done"], row["has_failed"]) for row in rows
    }
