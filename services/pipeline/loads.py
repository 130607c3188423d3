"""What the stream writes: one set-based statement per table and flush.

The rows of `stock_position` are locked first, in (sku, warehouse_id) order, and guard the facts of their stock items,
so that two workers can neither deadlock nor lose a sum.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date

from libs.chassis.database import Connection
from libs.events.inventory import ExternalInventoryUpdate
from libs.events.offsets import as_multirange, as_ranges
from libs.events.sequence import Seen
from services.pipeline.movement import Bucket, Totals
from services.pipeline.stock_position import Applied, StockPosition

StockItem = tuple[str, str]
"""sku, warehouse_id."""


async def lock_positions(connection: Connection, items: Sequence[StockItem]) -> dict[StockItem, StockPosition]:
    """The positions of all given stock items, which are sorted; locked, and created where they are missing."""
    found = await _lock_existing(connection, items)
    unknown = [item for item in items if item not in found]
    if unknown:
        await connection.execute(
            """
            INSERT INTO stock_position (sku, warehouse_id)
            SELECT sku, warehouse_id FROM unnest($1::text[], $2::text[]) AS item(sku, warehouse_id)
            ON CONFLICT DO NOTHING
            """,
            *_columns(unknown),
        )
        found |= await _lock_existing(connection, unknown)
    return found


async def _lock_existing(connection: Connection, items: Sequence[StockItem]) -> dict[StockItem, StockPosition]:
    rows = await connection.fetch(
        """
        SELECT position.sku, position.warehouse_id, last_sequence, missing, revision, quantity_on_hand,
               quantity_reserved, threshold_revision, reorder_point, reorder_quantity, last_movement_date
          FROM unnest($1::text[], $2::text[]) AS item(sku, warehouse_id)
          JOIN stock_position AS position USING (sku, warehouse_id)
         ORDER BY position.sku, position.warehouse_id
           FOR NO KEY UPDATE OF position
        """,
        *_columns(items),
    )
    return {
        (sku, warehouse_id): StockPosition(sku, warehouse_id, Seen(last_sequence, as_ranges(missing)), *rest)
        for sku, warehouse_id, last_sequence, missing, *rest in rows
    }


async def write_positions(connection: Connection, applied: Sequence[Applied]) -> None:
    """Store positions that `lock_positions` locked in this transaction."""
    positions = [item.position for item in applied]
    await connection.execute(
        """
        UPDATE stock_position AS position
           SET last_sequence = applied.last_sequence, revision = applied.revision,
               quantity_on_hand = applied.quantity_on_hand, quantity_reserved = applied.quantity_reserved,
               threshold_revision = applied.threshold_revision, reorder_point = applied.reorder_point,
               reorder_quantity = applied.reorder_quantity, last_movement_date = applied.last_movement_date,
               updated_at = now()
          FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                      $8::bigint[], $9::bigint[], $10::date[])
               AS applied(sku, warehouse_id, last_sequence, revision, quantity_on_hand, quantity_reserved,
                          threshold_revision, reorder_point, reorder_quantity, last_movement_date)
         WHERE position.sku = applied.sku AND position.warehouse_id = applied.warehouse_id
        """,
        [position.sku for position in positions],
        [position.warehouse_id for position in positions],
        [position.seen.last for position in positions],
        [position.revision for position in positions],
        [position.quantity_on_hand for position in positions],
        [position.quantity_reserved for position in positions],
        [position.threshold_revision for position in positions],
        [position.reorder_point for position in positions],
        [position.reorder_quantity for position in positions],
        [position.last_movement_date for position in positions],
    )


async def write_missing(connection: Connection, positions: Sequence[StockPosition]) -> None:
    """Store the missing sequences of some positions; few, because entries normally arrive in order."""
    await connection.executemany(
        "UPDATE stock_position SET missing = $3 WHERE sku = $1 AND warehouse_id = $2",
        [(position.sku, position.warehouse_id, as_multirange(position.seen.missing)) for position in positions],
    )


async def record_gaps(connection: Connection, applied: Sequence[Applied]) -> None:
    """Remember the gaps that some events left open."""
    await connection.executemany(
        "INSERT INTO sequence_gap (sku, warehouse_id, first_sequence, last_sequence) VALUES ($1, $2, $3, $4)",
        [
            (item.position.sku, item.position.warehouse_id, start, end - 1)
            for item in applied
            for start, end in item.gaps
        ],
    )


async def add_hourly(connection: Connection, totals: Mapping[Bucket, Totals]) -> None:
    """Add totals to the hourly facts."""
    await connection.execute(
        _ADD.format(table="hourly_movement", bucket="bucket_start", period="to_timestamp(period * 3600)"),
        *_fact_columns(totals),
    )


async def add_daily(connection: Connection, totals: Mapping[Bucket, Totals]) -> None:
    """Add totals to the daily facts."""
    await connection.execute(
        _ADD.format(table="daily_movement", bucket="date", period="date '1970-01-01' + period::int"),
        *_fact_columns(totals),
    )


_ADD = """
    INSERT INTO {table} AS fact
           (sku, warehouse_id, {bucket}, transaction_type, entries, units_in, units_out, value, last_event_at)
    SELECT sku, warehouse_id, {period}, transaction_type, entries, units_in, units_out, value, last_event_at
      FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
                  $8::numeric[], $9::timestamptz[])
           AS total(sku, warehouse_id, period, transaction_type, entries, units_in, units_out, value, last_event_at)
    ON CONFLICT (sku, warehouse_id, {bucket}, transaction_type)
    DO UPDATE SET entries = fact.entries + excluded.entries, units_in = fact.units_in + excluded.units_in,
                  units_out = fact.units_out + excluded.units_out, value = fact.value + excluded.value,
                  revision = fact.revision + 1, last_event_at = greatest(fact.last_event_at, excluded.last_event_at)
"""


def _fact_columns(totals: Mapping[Bucket, Totals]) -> list[list[object]]:
    ordered = sorted(totals.items())
    return [
        [bucket.sku for bucket, _ in ordered],
        [bucket.warehouse_id for bucket, _ in ordered],
        [bucket.period for bucket, _ in ordered],
        [bucket.transaction_type for bucket, _ in ordered],
        [total.entries for _, total in ordered],
        [total.units_in for _, total in ordered],
        [total.units_out for _, total in ordered],
        [total.value for _, total in ordered],
        [total.last_event_at for _, total in ordered],
    ]


async def mark_dirty(connection: Connection, buckets: Collection[Bucket], levels: Collection[StockItem]) -> None:
    """Ask the metrics process to calculate stock items again: those of changed hours, and those of changed levels."""
    marks: list[tuple[str, str, int | None, str | None]] = [*buckets, *((*item, None, None) for item in levels)]
    await connection.execute(
        """
        INSERT INTO dirty_stock_item (sku, warehouse_id, bucket_start, transaction_type)
        SELECT sku, warehouse_id, to_timestamp(hour * 3600), transaction_type
          FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[])
               AS mark(sku, warehouse_id, hour, transaction_type)
        """,
        *([mark[column] for mark in marks] for column in range(4)),
    )


async def add_external(connection: Connection, events: Sequence[ExternalInventoryUpdate]) -> None:
    """Store updates of third parties, each once per UTC date and eventId."""
    ordered = sorted(events, key=lambda event: event.event_id)
    await connection.execute(
        """
        INSERT INTO external_update
               (event_date, event_id, sku, warehouse_id, quantity_change, occurred_at, reference_id, notes)
        SELECT (occurred_at AT TIME ZONE 'UTC')::date, event_id, sku, warehouse_id, quantity_change, occurred_at,
               reference_id, notes
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::text[], $7::text[])
               AS event(event_id, sku, warehouse_id, quantity_change, occurred_at, reference_id, notes)
         ORDER BY 1, 2
        ON CONFLICT DO NOTHING
        """,
        [event.event_id for event in ordered],
        [event.sku for event in ordered],
        [event.warehouse_id for event in ordered],
        [event.quantity_change for event in ordered],
        [event.timestamp for event in ordered],
        [event.reference_id for event in ordered],
        [event.notes for event in ordered],
    )


async def advance_clock(connection: Connection, day: date) -> None:
    """Move the clock forward, never back; locks it only when the day advances."""
    await connection.execute(
        """
        INSERT INTO clock (as_of)
        SELECT $1::date WHERE NOT EXISTS (SELECT FROM clock WHERE as_of >= $1)
        ON CONFLICT (only_row) DO UPDATE SET as_of = greatest(clock.as_of, excluded.as_of)
        """,
        day,
    )


def _columns(items: Sequence[StockItem]) -> tuple[list[str], list[str]]:
    return [sku for sku, _ in items], [warehouse_id for _, warehouse_id in items]
