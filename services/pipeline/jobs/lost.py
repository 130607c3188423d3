"""Runs whose process has died: ended in the ledger, and told of to whoever follows the lineage."""

from libs.chassis.database import Pool, acquired
from services.pipeline.jobs import lineage, runs
from services.pipeline.settings import Settings


async def end_lost(pool: Pool, settings: Settings) -> int:
    """End the runs that have given no sign of life for too long; how many."""
    async with acquired(pool) as connection, connection.transaction():
        ended = await runs.end_lost(connection, settings.batch_lost_seconds)
    if ended and settings.openlineage_url is not None:
        await lineage.tell_aborted(settings.openlineage_url, ended)
    return len(ended)
