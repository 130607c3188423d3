"""The REST API of the pipeline service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from libs.chassis import app as chassis
from libs.chassis.database import Pool, open_pool, readiness
from libs.events.topics import INVENTORY_EVENTS, TOPICS
from libs.operations import consumers, dead_letters, events_document, outbox
from libs.operations.postgres_dead_letters import PostgresDeadLetters
from services.pipeline import archive, stream
from services.pipeline.archive import RetriedLetters
from services.pipeline.cache import Cache
from services.pipeline.routes import (
    alerts,
    backfills,
    lake,
    movements,
    operations,
    partitions,
    reconciliation,
    reports,
    runs,
)
from services.pipeline.settings import Settings


def dead_letter_store(pool: Pool, settings: Settings) -> PostgresDeadLetters:
    """The dead letters of both groups, and how each applies one that is retried."""
    retried = RetriedLetters(settings.lake_url, settings.kafka.topic_prefix)
    return PostgresDeadLetters(pool, {stream.GROUP: stream.handle, archive.GROUP: retried.handle})


def create_app(settings: Settings) -> FastAPI:
    """The application, connected to nothing until it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = settings.database_url.get_secret_value()
        app.state.cache = Cache(settings.redis_url.get_secret_value())
        app.state.reconciling = asyncio.Lock()
        try:
            async with await open_pool(
                url, size=settings.database_pool_size, application_name="pipeline-api"
            ) as app.state.pool:
                app.state.dead_letters = dead_letter_store(app.state.pool, settings)
                yield
        finally:
            await app.state.cache.close()

    return chassis.create_app(
        title="Stockflow pipeline",
        description="Movements, the clock, the lake, and whether all stores tell the same story.",
        settings=settings,
        lifespan=lifespan,
        routers=[
            movements.router,
            reconciliation.router,
            lake.router,
            runs.router,
            backfills.router,
            partitions.router,
            alerts.router,
            reports.router,
            operations.router,
            consumers.router(
                {stream.GROUP: [INVENTORY_EVENTS], archive.GROUP: TOPICS},
                consumers.in_postgres,
                {stream.GROUP: consumers.gaps_in("stock_position")},
            ),
            outbox.router,
            dead_letters.router,
            events_document.router,
        ],
        refusals={
            **dead_letters.REFUSALS,
            **runs.REFUSALS,
            **backfills.REFUSALS,
            **partitions.REFUSALS,
            **alerts.REFUSALS,
            **reports.REFUSALS,
        },
        readiness=readiness,
    )
