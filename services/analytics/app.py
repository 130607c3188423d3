"""The REST API of the analytics service."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI, Request

from libs.chassis import app as chassis
from libs.chassis import database
from libs.chassis.database import open_pool
from libs.operations import consumers, dead_letters
from libs.operations.consumers import Position
from services.analytics.cache import open_cache
from services.analytics.consumer import GROUP, TOPICS
from services.analytics.dead_letters import MongoDeadLetters
from services.analytics.documents import open_documents
from services.analytics.routes import daily_metrics, metrics, transactions
from services.analytics.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """The application, connected to nothing until it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            url = settings.database_url.get_secret_value()
            pool = await open_pool(url, size=settings.database_pool_size, application_name="analytics-api")
            app.state.pool = await opened.enter_async_context(pool)
            mongo = open_documents(settings.mongo_url.get_secret_value(), "analytics-api")
            app.state.history = await opened.enter_async_context(mongo)
            app.state.dead_letters = MongoDeadLetters(app.state.history)
            redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
            app.state.cache = open_cache(redis_url, settings.cache_seconds)
            opened.push_async_callback(app.state.cache.close)
            yield

    return chassis.create_app(
        title="Stockflow analytics",
        description="Transaction history, velocity, trends, turnover, risk of stockout, classes and totals.",
        settings=settings,
        lifespan=lifespan,
        routers=[
            metrics.router,
            daily_metrics.router,
            transactions.router,
            consumers.router({GROUP: TOPICS}, _positions),
            dead_letters.router,
        ],
        refusals=dead_letters.REFUSALS,
        readiness=_readiness,
    )


async def _positions(request: Request, group: str) -> list[Position]:
    """The checkpoints of the group in MongoDB."""
    return [
        Position(
            found["topic"],
            found["partition"],
            found.get("nextOffset"),
            found["epoch"],
            found["owner"],
            found["updatedAt"],
            found.get("maxEventTime"),
            found.get("lastError"),
            found.get("lastErrorAt"),
            found.get("deadLettersInARow", 0),
        )
        for found in await request.app.state.history.checkpoints(group)
    ]


async def _readiness(app: FastAPI) -> dict[str, str]:
    """MongoDB is the service's own store; without the views only the metrics fail."""
    await app.state.history.ping()
    return {"mongo": "ok"} | await database.readiness(app)
