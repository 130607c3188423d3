"""What the stream writes: one set-based statement per table and flush.

The rows of `stock_position` are locked first, in (sku, warehouse_id) order, and guard the facts of their stock items,
so that two workers can neither deadlock nor lose a sum.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime

from libs.chassis.database import Connection
from libs.events.inventory import ExternalInventoryUpdate
from libs.events.postgres import as_multirange, as_ranges
from libs.events.sequence import Seen
from libs.events.sink import RecordId
from services.pipeline.movement import SECONDS_PER_HOUR, Bucket, Totals
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


async def add_facts(connection: Connection, totals: Mapping[Bucket, Totals]) -> dict[str, int]:
    """Add hourly totals to the hourly and the daily facts, and mark their stock items and hours dirty.

    Facts of dates that have been dropped stay dropped, or they would begin again at nothing and at revision 1: how many
    ledger entries each kind of fact leaves out for that, where it does.

    Totals are sent once, by COPY, into a temporary table that lives as long as the connection; sums as text, because
    the client writes a numeric digit by digit.
    """
    await connection.execute(_STAGING)
    await connection.copy_records_to_table("hourly_total", schema_name="pg_temp", records=_records(totals))
    await connection.execute(f"{_ADD_HOURLY}; {_ADD_DAILY}; {_MARK_DIRTY}")
    return {row["fact"]: row["entries"] for row in await connection.fetch(_BEYOND_RETENTION)}


def _records(totals: Mapping[Bucket, Totals]) -> list[tuple[object, ...]]:
    return [
        (
            sku,
            warehouse_id,
            datetime.fromtimestamp(hour * SECONDS_PER_HOUR, UTC),
            transaction_type,
            total.entries,
            str(total.units_in),
            str(total.units_out),
            str(total.value),
            total.last_event_at,
        )
        for (sku, warehouse_id, hour, transaction_type), total in totals.items()
    ]


_STAGING = """
    CREATE TEMPORARY TABLE IF NOT EXISTS hourly_total (
        sku text COLLATE "C", warehouse_id text COLLATE "C", bucket_start timestamptz,
        transaction_type text COLLATE "C", entries bigint, units_in text, units_out text, value text,
        last_event_at timestamptz
    ) ON COMMIT DELETE ROWS
"""
_DATE = "(bucket_start AT TIME ZONE 'UTC')::date"
_ADD_HOURLY = f"""
    INSERT INTO hourly_movement AS fact
           (sku, warehouse_id, bucket_start, transaction_type, entries, units_in, units_out, value, last_event_at)
    SELECT sku, warehouse_id, bucket_start, transaction_type, entries, units_in::numeric, units_out::numeric,
           value::numeric, last_event_at
      FROM pg_temp.hourly_total
     WHERE NOT EXISTS (SELECT FROM fact_retention WHERE fact = 'hourly_movement' AND {_DATE} < kept_from)
     ORDER BY sku, warehouse_id, bucket_start, transaction_type
    ON CONFLICT (sku, warehouse_id, bucket_start, transaction_type)
    DO UPDATE SET entries = fact.entries + excluded.entries, units_in = fact.units_in + excluded.units_in,
                  units_out = fact.units_out + excluded.units_out, value = fact.value + excluded.value,
                  revision = fact.revision + 1, last_event_at = greatest(fact.last_event_at, excluded.last_event_at)
"""
_ADD_DAILY = f"""
    INSERT INTO daily_movement AS fact
           (sku, warehouse_id, date, transaction_type, entries, units_in, units_out, value, last_event_at)
    SELECT sku, warehouse_id, {_DATE}, transaction_type, sum(entries),
           sum(units_in::numeric), sum(units_out::numeric), sum(value::numeric), max(last_event_at)
      FROM pg_temp.hourly_total
     WHERE NOT EXISTS (SELECT FROM fact_retention WHERE fact = 'daily_movement' AND {_DATE} < kept_from)
     GROUP BY 1, 2, 3, 4
     ORDER BY 1, 2, 3, 4
    ON CONFLICT (sku, warehouse_id, date, transaction_type)
    DO UPDATE SET entries = fact.entries + excluded.entries, units_in = fact.units_in + excluded.units_in,
                  units_out = fact.units_out + excluded.units_out, value = fact.value + excluded.value,
                  revision = fact.revision + 1, last_event_at = greatest(fact.last_event_at, excluded.last_event_at)
"""
_MARK_DIRTY = """
    INSERT INTO dirty_stock_item (sku, warehouse_id, bucket_start, transaction_type)
    SELECT sku, warehouse_id, bucket_start, transaction_type FROM pg_temp.hourly_total
"""
_BEYOND_RETENTION = f"""
    SELECT fact, sum(entries)::bigint AS entries
      FROM fact_retention JOIN pg_temp.hourly_total ON {_DATE} < kept_from
     GROUP BY fact
"""


async def mark_dirty(connection: Connection, items: Collection[StockItem]) -> None:
    """Ask the metrics process to look at stock items again whose level changed."""
    await connection.execute(
        """
        INSERT INTO dirty_stock_item (sku, warehouse_id)
        SELECT sku, warehouse_id FROM unnest($1::text[], $2::text[]) AS item(sku, warehouse_id)
        """,
        *_columns(sorted(items)),
    )


async def add_external(connection: Connection, group: str, events: Mapping[RecordId, ExternalInventoryUpdate]) -> None:
    """Store updates of third parties, each once per UTC date and eventId, with where one stands that is no dead letter.

    Only where all its records are dead letters of the group, now resolved, is it one of those.
    """
    place_of = {(event.timestamp.astimezone(UTC).date(), event.event_id): place for place, event in events.items()}
    places = [place_of[key] for key in sorted(place_of)]
    ordered = [events[place] for place in places]
    await connection.execute(
        """
        INSERT INTO external_update AS stored
               (event_date, event_id, sku, warehouse_id, quantity_change, occurred_at, reference_id, notes,
                topic, partition, record_offset)
        SELECT (occurred_at AT TIME ZONE 'UTC')::date, event_id, sku, warehouse_id, quantity_change, occurred_at,
               reference_id, notes, topic, partition, record_offset
          FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::text[], $8::text[],
                      $9::text[], $10::int[], $11::bigint[])
               AS event(event_id, sku, warehouse_id, quantity_change, occurred_at, reference_id, notes,
                        topic, partition, record_offset)
         ORDER BY 1, 2
        ON CONFLICT (event_date, event_id)
        DO UPDATE SET topic = excluded.topic, partition = excluded.partition, record_offset = excluded.record_offset
         WHERE EXISTS (
             SELECT FROM dead_letter AS letter
              WHERE group_name = $1 AND letter.topic = stored.topic AND letter.partition = stored.partition
                AND letter.record_offset = stored.record_offset)
        """,
        group,
        [event.event_id for event in ordered],
        [event.sku for event in ordered],
        [event.warehouse_id for event in ordered],
        [event.quantity_change for event in ordered],
        [event.timestamp for event in ordered],
        [event.reference_id for event in ordered],
        [event.notes for event in ordered],
        [place.topic for place in places],
        [place.partition for place in places],
        [place.offset for place in places],
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
