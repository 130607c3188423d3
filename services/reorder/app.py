"""The REST API of the reorder service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from libs.chassis import app as chassis
from libs.chassis.database import Pool, open_pool, readiness
from libs.chassis.problems import RefusalMap
from libs.operations import consumers, dead_letters, events_document, outbox
from libs.operations.postgres_dead_letters import PostgresDeadLetters
from services.reorder import planning, recommendation, replenishment
from services.reorder.consumer import GROUP, TOPICS, handle
from services.reorder.routes import policies, positions, recommendations
from services.reorder.settings import Settings

REFUSALS: RefusalMap = {
    **dead_letters.REFUSALS,
    replenishment.PolicyKindNotSupported: (422, "policy-kind-not-supported"),
    replenishment.OrderUpToTooLow: (422, "order-up-to-too-low"),
    recommendation.RecommendationClosed: (409, "recommendation-closed"),
    recommendation.SnoozeNotAhead: (422, "snooze-not-ahead"),
    planning.UnknownProduct: (422, "unknown-product"),
    planning.UnknownWarehouse: (422, "unknown-warehouse"),
    planning.PolicyExists: (409, "already-exists"),
    planning.PolicyNotFound: (404, "not-found"),
    planning.RecommendationNotFound: (404, "not-found"),
}


def dead_letter_store(pool: Pool) -> PostgresDeadLetters:
    """The dead letters of the consumer, and how it applies one that is retried."""
    return PostgresDeadLetters(pool, {GROUP: handle})


def create_app(settings: Settings) -> FastAPI:
    """The application, connected to nothing until it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = settings.database_url.get_secret_value()
        async with await open_pool(
            url, size=settings.database_pool_size, application_name="reorder-api"
        ) as app.state.pool:
            app.state.dead_letters = dead_letter_store(app.state.pool)
            yield

    return chassis.create_app(
        title="Stockflow reorder",
        description="Reorder policies, inventory positions and recommendations that explain themselves.",
        settings=settings,
        lifespan=lifespan,
        routers=[
            policies.router,
            recommendations.router,
            positions.router,
            consumers.router({GROUP: TOPICS}, consumers.in_postgres, {GROUP: consumers.gaps_in("inventory_position")}),
            outbox.router,
            dead_letters.router,
            events_document.router,
        ],
        refusals=REFUSALS,
        readiness=readiness,
    )
