"""What must never be found in the database: each query returns the stock items or documents that break a promise."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from libs.chassis.database import Connection


@dataclass(frozen=True, slots=True)
class Audit:
    """A promise, and the query for what breaks it: one row with a text `found` each."""

    name: str
    promise: str
    sql: str


# A6 sees what waits in the outbox: those rows stand for ledger entries and leave no gap. Rows that the broker has
# acknowledged are deleted, so whether each published one arrived is for the pipeline's reconciliation, which compares
# the topic with the ledger.
# $1 narrows an audit to stock items and documents changed since then; A6 and A7 are small by nature and look at all.
AUDITS: Final = (
    Audit(
        "A1",
        "a level is the sum of its ledger entries, numbered without gaps",
        """
        SELECT level.warehouse_id || ':' || level.sku AS found
          FROM stock_level AS level
          LEFT JOIN LATERAL (
               SELECT coalesce(sum(quantity_change), 0) AS on_hand, count(*) AS entries,
                      coalesce(max(sequence), 0) AS last
                 FROM ledger_entry AS entry
                WHERE entry.sku = level.sku AND entry.warehouse_id = level.warehouse_id) AS ledger ON true
         WHERE level.updated_at >= $1
           AND (level.quantity_on_hand, level.sequence, level.sequence)
               IS DISTINCT FROM (ledger.on_hand, ledger.entries, ledger.last)
        """,
    ),
    Audit(
        "A2",
        "each entry starts from what the one before left",
        """
        SELECT warehouse_id || ':' || sku || ' #' || sequence AS found
          FROM (SELECT entry.*, lag(quantity_after, 1, 0::bigint)
                           OVER (PARTITION BY entry.sku, entry.warehouse_id ORDER BY entry.sequence) AS left_before
                  FROM ledger_entry AS entry
                  JOIN stock_level AS level USING (sku, warehouse_id)
                 WHERE level.updated_at >= $1) AS entry
         WHERE quantity_before <> left_before
        """,
    ),
    Audit(
        "A3",
        "what is reserved is the sum of outstanding allocations",
        """
        SELECT level.warehouse_id || ':' || level.sku AS found
          FROM stock_level AS level
         WHERE level.updated_at >= $1
           AND level.quantity_reserved <> (
               SELECT coalesce(sum(outstanding), 0)
                 FROM allocation AS hold
                WHERE hold.sku = level.sku AND hold.warehouse_id = level.warehouse_id AND outstanding > 0)
        """,
    ),
    Audit(
        "A4",
        "the lines of a transfer sum to zero per sku",
        """
        SELECT document.transaction_id || ' ' || entry.sku AS found
          FROM stock_transaction AS document
          JOIN ledger_entry AS entry USING (transaction_id)
         WHERE document.transaction_type = 'TRANSFER' AND document.recorded_at >= $1
         GROUP BY document.transaction_id, entry.sku
        HAVING sum(entry.quantity_change) <> 0
        """,
    ),
    Audit(
        "A6",
        "each ledger entry has one INVENTORY_UPDATE: those that still wait stand for entries and leave no gap",
        """
        WITH waiting AS (
            SELECT value ->> 'sku' AS sku, value ->> 'warehouseId' AS warehouse_id,
                   (value ->> 'sequence')::bigint AS sequence, (value ->> 'quantityChange')::bigint AS quantity_change,
                   created_at
              FROM (SELECT convert_from(value, 'UTF8')::jsonb AS value, created_at FROM outbox
                     WHERE headers ->> 'ce_type' = 'INVENTORY_UPDATE') AS message)
        SELECT warehouse_id || ':' || sku AS found
          FROM waiting
          LEFT JOIN ledger_entry AS entry USING (sku, warehouse_id, sequence)
         WHERE waiting.created_at >= $1
         GROUP BY sku, warehouse_id
        HAVING count(*) <> max(sequence) - min(sequence) + 1
            OR bool_or(waiting.quantity_change IS DISTINCT FROM entry.quantity_change)
        """,
    ),
    Audit(
        "A7",
        "no reservation is overdue by two sweep periods",
        """
        SELECT reservation_id || ' #' || line_no AS found
          FROM allocation
         WHERE outstanding > 0 AND expires_at < statement_timestamp() - make_interval(secs => $2)
           AND expires_at >= $1
        """,
    ),
)


async def violations(connection: Connection, audit: Audit, since: datetime, overdue_seconds: float) -> list[str]:
    """What breaks the promise, at most 1,000 of them."""
    limited = f"SELECT found FROM ({audit.sql}) AS broken ORDER BY found LIMIT 1000"
    arguments = [since, overdue_seconds] if "$2" in audit.sql else [since]
    rows = await connection.fetch(limited, *arguments)
    return [row["found"] for row in rows]
