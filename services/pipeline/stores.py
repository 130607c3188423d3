"""Reads every store for the reconciliation. A store that cannot be read says why; it is never taken for equal."""

import asyncio
from collections.abc import Awaitable, Collection

import pyarrow.compute as pc
import structlog

from libs.chassis.database import Pool, acquired
from libs.events.sink import RecordId
from libs.events.topics import INVENTORY_EVENTS
from services.pipeline import documents, kafka_log, reconciliation_queries, stream
from services.pipeline.cache import Cache
from services.pipeline.lake import LakeTable, days_since_1970, nearest_date
from services.pipeline.reconciliation import Holding, Tallies, Unreadable
from services.pipeline.settings import Settings

STATEMENT_TIMEOUT = "120s"

log = structlog.get_logger(__name__)

Reading = Holding | Unreadable


async def read_all(pool: Pool, cache: Cache, settings: Settings) -> dict[str, Reading]:
    """What each store holds, the ledger first."""
    async with acquired(pool) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")
        readings: dict[str, Reading] = {
            "ledger": await reconciliation_queries.ledger(connection),
            "stockLevels": await reconciliation_queries.stock_levels(connection),
            "facts": await reconciliation_queries.facts(connection, stream.GROUP),
            "hourlyFacts": await reconciliation_queries.hourly_facts(connection),
            "positions": await reconciliation_queries.positions(connection),
        }
        dead = await reconciliation_queries.dead_places(connection, stream.GROUP)
    others: dict[str, Awaitable[Reading]] = {
        "kafka": kafka_log.read(settings.kafka, dead),
        "mongo": documents.read(settings.mongo_url.get_secret_value()),
        "lake": asyncio.to_thread(read_lake, settings.lake_url, dead),
        "redis": read_cache(cache),
    }
    for name, reading in others.items():
        readings[name] = await _attempt(name, reading)
    return readings


def read_lake(lake_url: str, dead: Collection[RecordId]) -> Holding:
    """The lake's ledger entries, and updates of third parties but for those at dead places only. Blocks."""
    table = LakeTable(lake_url, INVENTORY_EVENTS)
    tallies = Tallies()
    external = 0
    columns = ("warehouseId", "transactionId", "lineNo", "quantityChange")
    for rows in table.events("INVENTORY_UPDATE", ("date", *columns), dead):
        external += pc.sum(pc.and_not(pc.is_null(rows["transactionId"]), rows["isMarked"])).as_py() or 0
        for days, warehouse_id, transaction_id, line_no, units in zip(
            days_since_1970(rows["date"]), *(rows[column].to_pylist() for column in columns), strict=True
        ):
            if transaction_id is not None:
                tallies[warehouse_id, nearest_date(days)].count(transaction_id, line_no, units)
    return Holding(tallies=tallies, external=external)


async def read_cache(cache: Cache) -> Holding:
    """What Redis says is on hand, for stock items that have moved."""
    on_hand = {
        (sku, warehouse_id): units
        for warehouse_id in await cache.warehouses()
        for sku, units in (await cache.on_hand(warehouse_id)).items()
    }
    return Holding(on_hand=on_hand)


async def _attempt(store: str, reading: Awaitable[Reading]) -> Reading:
    try:
        return await reading
    except Exception as error:
        # Whatever went wrong, the answer says that this store was not compared.
        log.warning("reconciliation.store_unreadable", store=store, error=repr(error))
        return Unreadable(f"{type(error).__name__}: {error}")
