"""Checks the promises of the ledger against the database."""

from datetime import UTC, datetime
from typing import Final

from prometheus_client import Gauge

from libs.chassis.database import Pool, acquired
from services.inventory.queries import audits

SWEEP_SECONDS: Final = 30.0
EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

PROMISES: Final = {audit.name: audit.promise for audit in audits.AUDITS}

VIOLATIONS = Gauge("stockflow_audit_violations", "Broken promises that the audit found; must be 0.", ["audit"])


async def run(pool: Pool, since: datetime = EVER) -> dict[str, list[str]]:
    """What each audit found among the stock items that changed since then, all in one snapshot of the database."""
    async with acquired(pool) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        # A whole ledger takes longer than a request may.
        await connection.execute("SET LOCAL statement_timeout = '10min'")
        return {
            audit.name: await audits.violations(connection, audit, since, 2 * SWEEP_SECONDS) for audit in audits.AUDITS
        }


def publish(found: dict[str, list[str]]) -> None:
    """Set the metric of each audit."""
    for name, violations in found.items():
        VIOLATIONS.labels(name).set(len(violations))
