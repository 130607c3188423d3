"""What was posted, read back in the order of recording."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from libs.chassis.database import Connection
from libs.events.inventory import TransactionType
from services.inventory.stock import StockItem, StockLevel
from services.inventory.transaction import Document, Entry

Position = tuple[datetime, UUID]
START: Final[Position] = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))


@dataclass(frozen=True, slots=True)
class Recorded:
    """A posted document and its ledger entries. The document's own lines are not read back."""

    document: Document
    entries: list[Entry]
    recorded_at: datetime

    @property
    def position(self) -> Position:
        return self.recorded_at, self.document.transaction_id


async def documents_after(connection: Connection, since: datetime, after: Position, limit: int) -> list[Recorded]:
    """At most `limit` documents recorded since then, beyond the position `after`, in the order of recording."""
    headers = await connection.fetch(
        """
        SELECT transaction_id, transaction_type, request_hash, actor, source, reference_id, notes, occurred_at,
               reverses_id, recorded_at
          FROM stock_transaction
         WHERE recorded_at >= $1 AND (recorded_at, transaction_id) > ($2, $3)
         ORDER BY recorded_at, transaction_id
         LIMIT $4
        """,
        since,
        *after,
        limit,
    )
    entries = await _entries(connection, [row["transaction_id"] for row in headers])
    return [Recorded(_document(row), entries[row["transaction_id"]], row["recorded_at"]) for row in headers]


async def levels_after(connection: Connection, since: datetime, after: StockItem, limit: int) -> list[StockLevel]:
    """At most `limit` levels that changed since then, beyond the item `after`, in order."""
    rows = await connection.fetch(
        """
        SELECT sku, warehouse_id, quantity_on_hand, quantity_reserved, reorder_point, reorder_quantity, sequence,
               revision, updated_at
          FROM stock_level
         WHERE updated_at >= $1 AND revision > 0 AND (sku, warehouse_id) > ($2, $3)
         ORDER BY sku, warehouse_id
         LIMIT $4
        """,
        since,
        *after,
        limit,
    )
    return [StockLevel(*row) for row in rows]


async def _entries(connection: Connection, transaction_ids: Sequence[UUID]) -> dict[UUID, list[Entry]]:
    rows = await connection.fetch(
        """
        SELECT transaction_id, line_no, sku, warehouse_id, quantity_change, quantity_before, quantity_after,
               quantity_reserved_after, sequence, revision, unit_cost, unit_price
          FROM ledger_entry
         WHERE transaction_id = ANY($1::uuid[])
         ORDER BY transaction_id, line_no
        """,
        transaction_ids,
    )
    entries: dict[UUID, list[Entry]] = defaultdict(list)
    for row in rows:
        entries[row[0]].append(Entry(*row[1:]))
    return entries


def _document(row: asyncpg.Record) -> Document:
    return Document(
        transaction_id=row["transaction_id"],
        transaction_type=TransactionType(row["transaction_type"]),
        lines=(),
        request_hash=row["request_hash"],
        actor=row["actor"],
        source=row["source"],
        reference_id=row["reference_id"],
        notes=row["notes"],
        occurred_at=row["occurred_at"],
        reverses_id=row["reverses_id"],
    )
