"""The `sweep` process: releases overdue reservations, and audits what changed.

Nothing depends on it but tidiness, alarm and quick lists: overdue units are available to every write and read at once.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import structlog
from prometheus_client import Counter

from libs.chassis.database import Pool, open_pool
from services.inventory import audits, reservations
from services.inventory.settings import Settings

MOST_HOLDS_AT_ONCE = 1_000
AUDITED = timedelta(minutes=5)

SWEPT = Counter("stockflow_reservations_swept_total", "Stock items whose overdue reservations were released.")

log = structlog.get_logger(__name__)


async def run(stop: asyncio.Event, settings: Settings) -> None:
    """Sweep and audit every 30 seconds until `stop` is set."""
    url = settings.database_url.get_secret_value()
    async with await open_pool(url, size=2, application_name="inventory-sweep") as pool:
        while not stop.is_set():
            await sweep_once(pool)
            try:
                await asyncio.wait_for(stop.wait(), audits.SWEEP_SECONDS)
            except TimeoutError:
                continue


async def sweep_once(pool: Pool) -> None:
    """Release everything that is overdue, then audit the stock items of the last minutes."""
    while swept := await reservations.sweep(pool, most_holds=MOST_HOLDS_AT_ONCE):
        SWEPT.inc(swept)
    found = await audits.run(pool, since=datetime.now(UTC) - AUDITED)
    audits.publish(found)
    for name, violations in found.items():
        if violations:
            log.error("audit_failed", audit=name, violations=len(violations), first=violations[0])
