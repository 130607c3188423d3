"""The REST API of the pipeline service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from libs.chassis import app as chassis
from libs.chassis.database import open_pool, readiness
from services.pipeline.cache import Cache
from services.pipeline.routes import dead_letters, lake, movements, operations, reconciliation
from services.pipeline.settings import Settings


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
            operations.router,
            dead_letters.router,
        ],
        refusals={},
        readiness=readiness,
    )
