"""The `stream` process: inventory events become positions and facts, in the transaction that advances the offsets."""

import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain

from prometheus_client import Counter

from libs.chassis.database import Connection, open_pool
from libs.events.consumer import Runner
from libs.events.failpoints import failpoint
from libs.events.inventory import ExternalInventoryUpdate, InventoryUpdate, StockLevelChange
from libs.events.offsets import PostgresSink, latest_event_time
from libs.events.sink import PartitionBatch, PoisonError, RecordId
from libs.events.topics import INVENTORY_EVENTS
from libs.operations.rebuild import Built, Rebuild
from services.pipeline import loads, stock_position
from services.pipeline.loads import StockItem
from services.pipeline.movement import hourly_totals
from services.pipeline.settings import Settings
from services.pipeline.stock_position import Applied

GROUP = "pipeline-stream"
MOST_AHEAD = timedelta(minutes=5)

REPEATS = Counter("stockflow_stream_repeats_total", "Ledger entries that had been counted before.")
LATE = Counter("stockflow_stream_late_total", "Ledger entries that filled a gap.")
BEYOND_RETENTION = Counter(
    "stockflow_stream_beyond_retention_total", "Ledger entries of dates whose facts have been dropped.", ["fact"]
)
SEQUENCE_GAPS = Counter("stockflow_stream_sequence_gaps_total", "Gaps found in the sequences of stock items.")


@dataclass(frozen=True, slots=True)
class Flush:
    """The events of one write, sorted by what they change."""

    entries: dict[StockItem, list[InventoryUpdate]] = field(default_factory=lambda: defaultdict(list))
    changes: dict[StockItem, list[StockLevelChange]] = field(default_factory=lambda: defaultdict(list))
    external: dict[RecordId, ExternalInventoryUpdate] = field(default_factory=dict)

    def items(self) -> list[StockItem]:
        """The stock items of ours, sorted."""
        return sorted(self.entries.keys() | self.changes.keys())


async def mark_everything(connection: Connection) -> None:
    """Have the metrics of all stock items calculated, cached and published again."""
    await connection.execute(
        "INSERT INTO dirty_stock_item (sku, warehouse_id) SELECT sku, warehouse_id FROM stock_position"
    )


async def after_rebuild(connection: Connection) -> None:
    """Forget the metrics of stock items that are gone, and have those of all others calculated again."""
    await connection.execute(
        """
        DELETE FROM stock_metric AS metric WHERE NOT EXISTS (
            SELECT FROM stock_position AS position
             WHERE position.sku = metric.sku AND position.warehouse_id = metric.warehouse_id)
        """
    )
    await mark_everything(connection)


@asynccontextmanager
async def open_runner(settings: Settings) -> AsyncIterator[Runner]:
    """The runner over inventory events, connected to Postgres within the block."""
    pool = await open_pool(
        settings.database_url.get_secret_value(),
        size=2,
        application_name=GROUP,
        statement_timeout_ms=60_000,
        lock_timeout_ms=30_000,
    )
    max_message_bytes = settings.kafka.max_message_bytes
    async with pool:
        yield Runner(
            PostgresSink(pool, GROUP, handle, owner=socket.gethostname(), max_message_bytes=max_message_bytes),
            topics=[INVENTORY_EVENTS],
            kafka=settings.kafka,
            flush_max_records=settings.stream_flush_records,
            flush_max_age_seconds=settings.stream_flush_seconds,
        )


async def handle(connection: Connection, batches: Sequence[PartitionBatch]) -> None:
    """Apply batches of inventory events, in the transaction of the caller.

    Raises PoisonError for events that claim to come from the future.
    """
    refuse_future(batches, datetime.now(UTC))
    flush = collect(batches)
    if flush.external:
        await loads.add_external(connection, GROUP, flush.external)
    if flush.entries or flush.changes:
        positions = await loads.lock_positions(connection, flush.items())
        applied = [
            stock_position.apply(position, flush.entries.get(item, ()), flush.changes.get(item, ()))
            for item, position in positions.items()
        ]
        failpoint("stream.deduplicated")
        await _write_positions(connection, applied, positions)
        await _write_facts(connection, applied, flush)


def refuse_future(batches: Iterable[PartitionBatch], now: datetime) -> None:
    """Raise PoisonError naming every event stamped more than five minutes after `now`."""
    limit = now + MOST_AHEAD
    reasons = {
        RecordId(batch.topic, batch.partition, received.offset): f"{received.event.timestamp} lies in the future"
        for batch in batches
        if (latest := latest_event_time(batch)) is not None and latest > limit
        for received in batch.received
        if received.event.timestamp > limit
    }
    if reasons:
        raise PoisonError(reasons)


def collect(batches: Iterable[PartitionBatch]) -> Flush:
    """Sort events by what they change. Posted documents change nothing here: their lines come one by one."""
    flush = Flush()
    for received in chain.from_iterable(batch.received for batch in batches):
        event = received.event
        if isinstance(event, InventoryUpdate):
            flush.entries[event.sku, event.warehouse_id].append(event)
        elif isinstance(event, StockLevelChange):
            flush.changes[event.sku, event.warehouse_id].append(event)
        elif isinstance(event, ExternalInventoryUpdate):
            record = received.record
            flush.external[RecordId(record.topic, record.partition, record.offset)] = event
    return flush


async def _write_positions(
    connection: Connection,
    applied: Sequence[Applied],
    before: dict[StockItem, stock_position.StockPosition],
) -> None:
    await loads.write_positions(connection, applied)
    moved = [
        item.position
        for item in applied
        if item.position.seen.missing != before[item.position.sku, item.position.warehouse_id].seen.missing
    ]
    if moved:
        await loads.write_missing(connection, moved)
        await loads.record_gaps(connection, applied)


async def _write_facts(connection: Connection, applied: Sequence[Applied], flush: Flush) -> None:
    hourly = hourly_totals(chain.from_iterable(item.accepted for item in applied))
    if flush.changes:
        await loads.mark_dirty(connection, flush.changes)
    if hourly:
        for fact, entries in (await loads.add_facts(connection, hourly)).items():
            BEYOND_RETENTION.labels(fact).inc(entries)
        latest = max(total.last_event_at for total in hourly.values())
        await loads.advance_clock(connection, latest.astimezone(UTC).date())
    SEQUENCE_GAPS.inc(sum(len(item.gaps) for item in applied))
    LATE.inc(sum(item.late for item in applied))
    accepted = sum(len(item.accepted) for item in applied)
    REPEATS.inc(sum(len(entries) for entries in flush.entries.values()) - accepted)


REBUILD = Rebuild(
    group=GROUP,
    schema="pipeline",
    topics=[INVENTORY_EVENTS],
    tables=[
        Built("stock_position"),
        Built("sequence_gap"),
        Built("hourly_movement", counter="revision"),
        Built("daily_movement", counter="revision"),
        Built("external_update"),
        Built("clock"),
    ],
    handle=handle,
    after_switch=after_rebuild,
    scratch=["dirty_stock_item"],
)
"""Positions and facts, built anew from the topic."""
