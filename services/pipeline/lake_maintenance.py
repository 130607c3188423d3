"""`lake-maintenance`, once a day: few files, no repeats, and no more old versions than the retention asks for."""

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from libs.events.failpoints import failpoint
from services.pipeline import lake
from services.pipeline.jobs.contract import IN_LAKE
from services.pipeline.lake import PartitionedTable
from services.pipeline.settings import Settings

LATEST_RUN = timedelta(days=8)
"""Repeats are looked for in files that are younger than this: a run may fail for a week without missing any."""
QUIET = timedelta(hours=1)
"""A day counts as closed this long after its end, because the archive writes with some delay."""

log = structlog.get_logger(__name__)


async def run(stop: asyncio.Event, settings: Settings) -> None:
    """Rewrite the closed days that need it, then delete what no version within the retention needs."""
    retention = timedelta(days=settings.lake_retention_days)
    await asyncio.to_thread(maintain, stop, settings.lake_url, datetime.now(UTC), retention)


def maintain(stop: asyncio.Event, lake_url: str, now: datetime, retention: timedelta) -> None:
    """As `run`; between two days it looks whether it was asked to stop. Nothing is lost by stopping."""
    open_day = (now - QUIET).date()
    for table in lake.tables(lake_url):
        for day in table.untidy_days(open_day, now - LATEST_RUN):
            if stop.is_set():
                return
            if table.tidy(day):
                log.info("lake.day_rewritten", topic=table.topic.name, date=str(day))
            else:
                log.warning("lake.day_still_written", topic=table.topic.name, date=str(day))
            failpoint("batch.lake.day_rewritten")
        deleted = table.vacuum(retention)
        log.info("lake.vacuumed", topic=table.topic.name, files=deleted)
    for contract in IN_LAKE:
        deleted = PartitionedTable(lake_url, contract.dataset, contract.schema).vacuum(retention)
        log.info("lake.vacuumed", dataset=contract.dataset, files=deleted)
