"""The REST API of the inventory service."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
from fastapi import FastAPI

from libs.chassis import app as chassis
from libs.chassis.coalescing import Coalesced
from libs.chassis.database import Pool, acquired, open_pool, readiness
from libs.operations import events_document, outbox
from services.inventory.group_commit import GroupCommit
from services.inventory.queries import readings
from services.inventory.routes import (
    bulk,
    categories,
    exports,
    imports,
    ledger_entries,
    products,
    reservations,
    stock_levels,
    stock_repairs,
    transaction_batches,
    transactions,
    warehouses,
)
from services.inventory.settings import Settings
from services.inventory.statuses import CONSTRAINTS, REFUSALS
from services.inventory.stock import StockItem

DESCRIPTION = """Products, warehouses, stock levels and the ledger of every unit that moved.

A *stock transaction* is a document of 1 to 1,000 lines, posted whole or not at all. Its id is chosen by the caller:
sending it again is safe. Stock never goes below zero, and what is recorded is never changed, only reversed."""


def create_app(settings: Settings) -> FastAPI:
    """The application; its pool opens with its lifespan."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = settings.database_url.get_secret_value()
        async with await open_pool(
            url, size=settings.database_pool_size, application_name="inventory-api"
        ) as app.state.pool:
            app.state.ledger = GroupCommit(app.state.pool)
            app.state.levels = Coalesced(partial(_levels, app.state.pool))
            app.state.bulk = asyncio.Semaphore(bulk.MOST_AT_ONCE)
            yield

    routes = (
        stock_levels,
        transactions,
        transaction_batches,
        products,
        categories,
        warehouses,
        imports,
        exports,
        ledger_entries,
        reservations,
        stock_repairs,
        outbox,
        events_document,
    )
    app = chassis.create_app(
        title="Stockflow inventory",
        description=DESCRIPTION,
        settings=settings,
        lifespan=lifespan,
        routers=[module.router for module in routes],
        refusals=REFUSALS,
        constraints=CONSTRAINTS,
        readiness=readiness,
    )
    app.state.body_limits = {imports.PATH: imports.MOST_BYTES}
    return app


async def _levels(pool: Pool, items: Collection[StockItem]) -> dict[StockItem, asyncpg.Record]:
    async with acquired(pool) as connection:
        return await readings.read_levels(connection, items)
