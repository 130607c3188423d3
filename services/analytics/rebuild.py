"""Builds the history anew from the beginning of the topics, beside the running workers.

A new generation of the group fills collections of its own. When it has caught up, these take the place of the real
ones, and the workers are fenced: they claim again and go on where the new generation stands. What they wrote
meanwhile they write again; documents are idempotent.
"""

import asyncio
from typing import Final

from libs.events import lag
from libs.events.consumer import Runner
from libs.operations.rebuild import POLL_SECONDS, NotCaughtUp, Progress, refuse_short_topics
from services.analytics.consumer import GROUP, TOPICS, HistorySink
from services.analytics.documents import DocumentStore
from services.analytics.settings import Settings

DRAFT: Final = "rebuild_"
"""Before the names of the new generation's collections."""


async def rebuild(database: DocumentStore, settings: Settings, progress: Progress) -> None:
    """Do it. Raises RecordsGone and NotCaughtUp; then nothing has changed, but for collections that nobody reads.

    Interrupted while the collections change places, it must be run again: until then the history is incomplete.
    """
    kafka = settings.kafka.model_copy(update={"group_instance_id": None})
    await refuse_short_topics(TOPICS, kafka)
    draft = database.draft(DRAFT)
    await draft.drop()
    await draft.create_collections()
    stop = asyncio.Event()
    sink = HistorySink(draft, kafka, owner="rebuild", mirrors=False)
    running = asyncio.create_task(Runner(sink, topics=TOPICS, kafka=kafka, kafka_group=f"{GROUP}-rebuild").run(stop))
    try:
        await _catch_up(draft, settings, running, progress)
    finally:
        stop.set()
        await asyncio.wait({running})
    await running
    await draft.replace(database)
    for checkpoint in await draft.checkpoints(GROUP):
        await database.set_checkpoint(checkpoint)
    await draft.drop()


async def _catch_up(draft: DocumentStore, settings: Settings, running: asyncio.Task[None], progress: Progress) -> None:
    ends = await lag.end_offsets(settings.kafka, [settings.kafka.topic(topic.name) for topic in TOPICS])
    total = sum(ends.values())
    while True:
        applied = sum(checkpoint.get("nextOffset") or 0 for checkpoint in await draft.checkpoints(GROUP))
        progress(min(applied, total), total)
        if applied >= total:
            return
        done, _ = await asyncio.wait({running}, timeout=POLL_SECONDS)
        if done:
            await running
            raise NotCaughtUp("the new generation ended before it had caught up")
