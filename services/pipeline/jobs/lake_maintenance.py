"""`lake_maintenance`: closed days in few files without repeats, and old versions for as long as they are promised."""

import asyncio
from datetime import UTC, datetime, timedelta

from libs.events.topics import TOPICS
from services.pipeline.jobs.step import Context, StepResult
from services.pipeline.lake_maintenance import maintain

_TABLES = tuple(f"lake:{topic.name}" for topic in TOPICS)


async def maintain_lake(context: Context) -> StepResult:
    """Tidy what is untidy now, whatever the interval: running it again finds nothing more to do.

    It needs no fence: it writes the same rows in fewer files, and Delta refuses the later one of two commits.
    """
    stop = asyncio.Event()
    retention = timedelta(days=context.settings.lake_retention_days)
    try:
        await asyncio.to_thread(maintain, stop, context.settings.lake_url, datetime.now(UTC), retention)
    finally:
        stop.set()
    return StepResult(reads=_TABLES, writes=dict.fromkeys(_TABLES))
