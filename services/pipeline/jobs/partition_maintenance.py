"""`partition_maintenance`: months of facts get their partitions before they begin, and go when they are too old.

So do alerts, mails and runs, which have no partitions.
"""

from datetime import UTC, datetime

from libs.chassis.database import acquired
from libs.events.failpoints import failpoint
from services.pipeline import alert_queries, mail_queries, metric_queries, partition_queries
from services.pipeline.jobs import fence, run_queries
from services.pipeline.jobs.step import Context, StepResult
from services.pipeline.partition_queries import Fact

LONGEST_WAIT = "5s"
"""For the lock of a fact table: as long may the stream be held up behind it."""
LONGEST_MOVE = "10min"
MONTHS_AHEAD = 2


async def create_partitions(context: Context) -> StepResult:
    """Create this month's partition and the next ones, and those of the past that the default partition has grown.

    Months of few rows stay in the default partition.
    """
    least = context.settings.fact_partition_rows
    created, moved = [], 0
    for fact in Fact:
        async with acquired(context.pool) as connection:
            months = await partition_queries.months_without_partition(connection, fact, least)
            months += await partition_queries.months_from(connection, datetime.now(UTC).date(), MONTHS_AHEAD)
        for done, month in enumerate(months):
            context.progress(done, len(months))
            async with fence.transaction(context) as connection:
                await connection.execute(_LIMITS)
                rows = await partition_queries.create_partition(connection, fact, month)
                failpoint("batch.partition.created")
            failpoint("batch.partition.committed")
            if rows is not None:
                created.append(f"{fact}_{month:%Y_%m}")
                moved += rows
    return StepResult(rows_in=moved, rows_out=moved, partitions=tuple(created), writes=dict.fromkeys(_FACTS))


async def drop_old_facts(context: Context) -> StepResult:
    """Drop the months that the settings keep no longer, counted from the day up to which metrics reach."""
    settings = context.settings
    kept = {Fact.HOURLY: settings.hourly_facts_months, Fact.DAILY: settings.daily_facts_months}
    today = datetime.now(UTC).date() if settings.metrics_clock == "wall" else None
    dropped: list[str] = []
    for fact, months in kept.items():
        async with fence.transaction(context) as connection:
            await connection.execute(_LIMITS)
            day = await metric_queries.as_of(connection, today)
            if months is not None and day is not None:
                dropped += await partition_queries.drop_before(connection, fact, day, months)
                failpoint("batch.facts.dropped")
    return StepResult(partitions=tuple(dropped), writes=dict.fromkeys(_FACTS))


async def delete_old_alerts(context: Context) -> StepResult:
    """Delete alerts that were resolved, and mails that were sent or given up, longer ago than they are kept."""
    days = context.settings.alert_retention_days
    async with fence.transaction(context) as connection:
        await connection.execute(_LIMITS)
        alerts = await alert_queries.delete_older(connection, days)
        failpoint("batch.alerts.deleted")
        mails = await mail_queries.delete_older(connection, days)
    return StepResult(
        rows_out=alerts + mails,
        figures={"alerts": alerts, "mails": mails},
        writes=dict.fromkeys(("postgres:pipeline.alert", "postgres:pipeline.mail")),
    )


async def delete_old_runs(context: Context) -> StepResult:
    """Delete what runs have logged, and runs that later ones stand in for, longer after their end than they are kept.

    What is known of each interval stays as it was.
    """
    days = context.settings.run_retention_days
    async with fence.transaction(context) as connection:
        await connection.execute(_LIMITS)
        lines = await run_queries.delete_older_logs(connection, days)
        failpoint("batch.run_log.deleted")
        runs = await run_queries.delete_older(connection, days)
    return StepResult(
        rows_out=lines + runs,
        figures={"logLines": lines, "runs": runs},
        writes=dict.fromkeys(("postgres:pipeline.run_log", "postgres:pipeline.run")),
    )


_FACTS = tuple(f"postgres:pipeline.{fact}" for fact in Fact)
_LIMITS = f"SET LOCAL lock_timeout = '{LONGEST_WAIT}'; SET LOCAL statement_timeout = '{LONGEST_MOVE}'"
