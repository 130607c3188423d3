"""`weekly_summary`: what the week brought, as a report that is stored, served and mailed.

The interval is one Monday 01:00 to the next; its week is the seven days from the first Monday on. Facts that come late
are in the report once the job is run again for its interval: the report keeps its id, and its mail is not sent twice.
"""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Final

from libs.chassis.database import Connection, acquired
from libs.events.failpoints import failpoint
from services.pipeline import mail_queries, weekly_queries, weekly_report
from services.pipeline.jobs import fence
from services.pipeline.jobs.contract import LEDGER_ENTRIES
from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.step import Context, StepResult
from services.pipeline.weekly_summary import Alerts, Day, Mover, Stockout, Totals, Warehouse, WeeklySummary

A_WEEK: Final = timedelta(days=7)
_REPORT: Final = "postgres:pipeline.report"
STATEMENT_TIMEOUT: Final = "300s"


class NotOneWeek(Exception):
    """The interval does not hold the beginning of exactly one week."""


def week_of(interval: Interval) -> date:
    """The Monday that the interval is about. Raises NotOneWeek."""
    mondays = [day for day in interval.dates() if day.weekday() == 0 and day < interval.end.astimezone(UTC).date()]
    if len(mondays) != 1:
        raise NotOneWeek(f"{interval} holds {len(mondays)} weeks; ask for one, from Monday to Monday")
    return mondays[0]


async def aggregate_week(context: Context) -> StepResult:
    """Sum the week, and the week before it, per stock item."""
    week = week_of(context.interval)
    rows = 0
    # Runs of neighbouring weeks both sum the earlier one.
    async with fence.alone(context), fence.transaction(context) as connection:
        await connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")
        for done, monday in enumerate((week - A_WEEK, week)):
            context.progress(done, 2)
            rows = await weekly_queries.replace_week(connection, monday)
            failpoint("batch.week.replaced")
    return StepResult(
        rows_out=rows,
        partitions=(week.isoformat(),),
        reads=(
            "postgres:pipeline.daily_movement",
            "postgres:pipeline.stock_position",
            "postgres:inventory.products_v1",
        ),
        writes={"postgres:pipeline.weekly_stock_item": rows},
    )


async def calculate_weekly_metrics(context: Context) -> StepResult:
    """The summary of the week beside the week before."""
    week = week_of(context.interval)
    async with acquired(context.pool) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")
        summary = await _summary(connection, week)
    failpoint("batch.week.calculated")
    return StepResult(
        rows_in=context.upstream["aggregate_week"].rows_out,
        figures=summary.model_dump(mode="json"),
        reads=("postgres:pipeline.weekly_stock_item", "postgres:pipeline.daily_movement", "postgres:pipeline.alert"),
    )


async def generate_reports(context: Context) -> StepResult:
    """The report as JSON and as a page with plots, stored."""
    summary = WeeklySummary.read(context.upstream["calculate_weekly_metrics"].figures)
    now = datetime.now(UTC)
    page = await asyncio.to_thread(weekly_report.page, summary, now)
    async with fence.transaction(context) as connection:
        report_id = await weekly_queries.save_draft(
            connection, summary.week, summary.model_dump(mode="json"), page, now
        )
        failpoint("batch.report.stored")
    failpoint("batch.report.committed")
    return StepResult(
        rows_out=1,
        partitions=(summary.week.isoformat(),),
        figures={"reportId": str(report_id)},
        writes={_REPORT: 1},
    )


async def update_dashboards(context: Context) -> StepResult:
    """Publish the report: dashboards read `weekly_summaries_v1`, people get it by mail, once.

    Where there are no recipients, a run of this week mails it once there are.
    """
    settings = context.settings
    async with fence.transaction(context) as connection:
        report = await weekly_queries.publish(connection, week_of(context.interval))
        failpoint("batch.report.published")
        is_mailed = report["mailed_at"] is None and bool(settings.mail_recipients)
        if is_mailed:
            await weekly_queries.mark_mailed(connection, report["report_id"])
            await mail_queries.enqueue(
                connection,
                weekly_report.mail(
                    WeeklySummary.read(report["content"]),
                    report["html"],
                    sender=settings.mail_from,
                    recipients=settings.mail_recipients,
                    now=datetime.now(UTC),
                ),
            )
    failpoint("batch.report.mailed")
    if not settings.mail_recipients:
        context.log("report.no_recipients", level="warning")
    return StepResult(rows_out=1, figures={"mailed": is_mailed}, reads=(_REPORT,), writes={_REPORT: 1})


async def _summary(connection: Connection, week: date) -> WeeklySummary:
    before = week - A_WEEK
    score, checked_days = await weekly_queries.quality(connection, week, LEDGER_ENTRIES.dataset)
    score_before, checked_days_before = await weekly_queries.quality(connection, before, LEDGER_ENTRIES.dataset)
    return WeeklySummary(
        week=week,
        totals=Totals(**await weekly_queries.totals(connection, week)),
        totals_before=Totals(**await weekly_queries.totals(connection, before)),
        days=[Day(**row) for row in await weekly_queries.days(connection, week)],
        top_movers=[Mover(**row) for row in await weekly_queries.top_movers(connection, week)],
        stockouts=[Stockout(**row) for row in await weekly_queries.stockouts(connection, week)],
        warehouses=[Warehouse(**row) for row in await weekly_queries.warehouses(connection, week)],
        alerts=Alerts(**await weekly_queries.alerts(connection, week)),
        quality_score=score,
        quality_score_before=score_before,
        quality_days=checked_days,
        quality_days_before=checked_days_before,
    )
