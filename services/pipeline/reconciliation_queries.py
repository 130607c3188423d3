"""What Postgres holds, for the reconciliation. Run all of them in one snapshot."""

import asyncpg

from libs.chassis.database import Connection
from libs.events.sink import RecordId
from services.pipeline import partition_queries
from services.pipeline.partition_queries import Fact
from services.pipeline.reconciliation import FINGERPRINT_MODULUS, Holding, Tallies, Tally


async def ledger(connection: Connection) -> Holding:
    """The ledger's entries, and what they sum to per stock item."""
    days = await connection.fetch(
        f"""
        SELECT warehouse_id, (occurred_at AT TIME ZONE 'UTC')::date AS date, count(*) AS entries,
               sum(quantity_change) AS units,
               mod(mod(sum((1 + (('x' || left(transaction_id::text, 8))::bit(32)::bigint + line_no) % 1000003)::numeric
                           * (quantity_change::numeric + 1048576)),
                       {FINGERPRINT_MODULUS}) + {FINGERPRINT_MODULUS}, {FINGERPRINT_MODULUS}) AS fingerprint
          FROM inventory.ledger_entries_v1 GROUP BY 1, 2
        """
    )
    items = await connection.fetch(
        """
        SELECT sku, warehouse_id, sum(quantity_change) AS units
          FROM inventory.ledger_entries_v1 GROUP BY 1, 2
        """
    )
    return Holding(
        tallies=Tallies(
            ((day["warehouse_id"], day["date"]), Tally(day["entries"], int(day["units"]), int(day["fingerprint"])))
            for day in days
        ),
        on_hand=_on_hand(items),
    )


async def stock_levels(connection: Connection) -> Holding:
    """What inventory itself says is on hand, for stock items with a ledger."""
    return Holding(
        on_hand=_on_hand(
            await connection.fetch(
                """
                SELECT sku, warehouse_id, quantity_on_hand AS units
                  FROM inventory.stock_levels_v1 WHERE sequence > 0
                """
            )
        )
    )


async def facts(connection: Connection, group: str) -> Holding:
    """The daily facts, and the updates of third parties that did not come by a dead letter of the group.

    Those are left out of every store: an edited letter's event is in no other.
    """
    days = await connection.fetch(
        """
        SELECT warehouse_id, date, sum(entries)::bigint AS entries, sum(units_in) - sum(units_out) AS units
          FROM daily_movement GROUP BY 1, 2
        """
    )
    return Holding(
        tallies=Tallies(
            ((day["warehouse_id"], day["date"]), Tally(day["entries"], int(day["units"]), None)) for day in days
        ),
        external=await connection.fetchval(
            """
            SELECT count(*) FROM external_update AS stored
             WHERE NOT EXISTS (
                 SELECT FROM dead_letter AS letter
                  WHERE group_name = $1 AND letter.topic = stored.topic AND letter.partition = stored.partition
                    AND letter.record_offset = stored.record_offset)
            """,
            group,
        ),
        kept_from=await partition_queries.kept_from(connection, Fact.DAILY),
    )


async def hourly_facts(connection: Connection) -> Holding:
    """The hourly facts."""
    days = await connection.fetch(
        """
        SELECT warehouse_id, (bucket_start AT TIME ZONE 'UTC')::date AS date, sum(entries)::bigint AS entries,
               sum(units_in) - sum(units_out) AS units
          FROM hourly_movement GROUP BY 1, 2
        """
    )
    return Holding(
        tallies=Tallies(
            ((day["warehouse_id"], day["date"]), Tally(day["entries"], int(day["units"]), None)) for day in days
        ),
        kept_from=await partition_queries.kept_from(connection, Fact.HOURLY),
    )


async def positions(connection: Connection) -> Holding:
    """What the stream knows of each stock item that has moved."""
    return Holding(
        on_hand=_on_hand(
            await connection.fetch(
                "SELECT sku, warehouse_id, quantity_on_hand AS units FROM stock_position WHERE last_sequence > 0"
            )
        )
    )


async def dead_places(connection: Connection, group: str) -> set[RecordId]:
    """Where the records stand that the group keeps as dead letters, or has kept before they were resolved."""
    rows = await connection.fetch(
        "SELECT topic, partition, record_offset FROM dead_letter WHERE group_name = $1", group
    )
    return {RecordId(row["topic"], row["partition"], row["record_offset"]) for row in rows}


def _on_hand(rows: list[asyncpg.Record]) -> dict[tuple[str, str], int]:
    return {(row["sku"], row["warehouse_id"]): int(row["units"]) for row in rows}
