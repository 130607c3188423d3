"""Consumer `reorder-position`: events about stock items become positions, and positions become recommendations."""

import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from libs.chassis.database import Connection, open_pool
from libs.events.analytics import LowStockAlert, VelocityCalculated
from libs.events.consumer import Runner
from libs.events.inventory import InventoryUpdate, StockLevelChange
from libs.events.offsets import PostgresSink
from libs.events.sink import PartitionBatch
from libs.events.topics import ANALYTICS_EVENTS, INVENTORY_EVENTS
from libs.operations.rebuild import Built, Rebuild
from services.reorder import evaluation, inventory_position
from services.reorder.inventory_position import PositionEvent
from services.reorder.queries import positions
from services.reorder.recommendation import StockItem
from services.reorder.settings import Settings

GROUP = "reorder-position"
TOPICS = (INVENTORY_EVENTS, ANALYTICS_EVENTS)


async def handle(connection: asyncpg.Connection, batches: Sequence[PartitionBatch]) -> None:
    """Apply the events of some batches to the positions of their stock items and evaluate those, set-based."""
    events = _by_item(batches)
    if not events:
        return
    held = await positions.hold_positions(connection, events.keys())
    told = [inventory_position.apply(position, events[position.item]) for position in held]
    await positions.save_positions(connection, told)
    await evaluation.evaluate(connection, told)


async def _nothing_more(_connection: Connection) -> None:
    """Recommendations are evaluated after the switch, in pieces, by whoever asked for the rebuild."""


FLUSH_TIMEOUT_MS = 60_000

REBUILD = Rebuild(
    group=GROUP,
    schema="reorder",
    topics=TOPICS,
    tables=[Built("inventory_position")],
    handle=handle,
    after_switch=_nothing_more,
    scratch=["recommendation"],
    keeps_others=True,  # A policy makes a position before any event does.
)
"""The positions, built anew from the topics."""


def _by_item(batches: Sequence[PartitionBatch]) -> dict[StockItem, list[PositionEvent]]:
    """The events that change a position, per stock item, in the order received; all others are not ours."""
    events: dict[StockItem, list[PositionEvent]] = defaultdict(list)
    for batch in batches:
        for received in batch.received:
            match received.event:
                case InventoryUpdate() | StockLevelChange() | VelocityCalculated() | LowStockAlert() as event:
                    events[StockItem(event.sku, event.warehouse_id)].append(event)
    return events


@asynccontextmanager
async def open_runner(settings: Settings) -> AsyncIterator[Runner]:
    """The runner over the events that change a position, connected to Postgres within the block."""
    pool = await open_pool(
        settings.database_url.get_secret_value(),
        size=2,
        application_name="reorder-consume",
        statement_timeout_ms=FLUSH_TIMEOUT_MS,
        lock_timeout_ms=5_000,
    )
    max_message_bytes = settings.kafka.max_message_bytes
    async with pool:
        yield Runner(
            PostgresSink(pool, GROUP, handle, owner=socket.gethostname(), max_message_bytes=max_message_bytes),
            topics=TOPICS,
            kafka=settings.kafka,
            flush_max_records=settings.flush_max_records,
            flush_max_age_seconds=settings.flush_max_age_seconds,
        )
