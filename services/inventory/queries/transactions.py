"""Stock transactions and their ledger entries: written once, never changed."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from libs.chassis.database import Connection
from services.inventory.transaction import Document, Entry


async def known(connection: Connection, transaction_ids: Collection[UUID]) -> dict[UUID, bytes]:
    """The request hash of each of these transactions that is posted already."""
    rows = await connection.fetch(
        "SELECT transaction_id, request_hash FROM stock_transaction WHERE transaction_id = ANY($1::uuid[])",
        list(transaction_ids),
    )
    return {row[0]: row[1] for row in rows}


async def posted_here(connection: Connection, transaction_ids: Collection[UUID]) -> set[UUID]:
    """Those of the transactions that were posted earlier in this very database transaction."""
    rows = await connection.fetch(
        """
        SELECT transaction_id FROM stock_transaction
         WHERE transaction_id = ANY($1::uuid[]) AND xid = pg_current_xact_id()
        """,
        list(transaction_ids),
    )
    return {row[0] for row in rows}


async def insert(connection: Connection, documents: Sequence[Document], recorded_at: datetime) -> int:
    """Write the documents and return how many were new; one that somebody else posted meanwhile is left out.

    Sorted by id, so that two batches with the same documents wait for each other in one direction.
    """
    ordered = sorted(documents, key=lambda document: document.transaction_id)
    status = await connection.execute(
        """
        INSERT INTO stock_transaction (transaction_id, transaction_type, reference_id, notes, reason, actor, source,
                                       request_hash, occurred_at, line_count, reverses_id, reservation_id, recorded_at)
        SELECT *, $13::timestamptz
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[],
                      $9::timestamptz[], $10::integer[], $11::uuid[], $12::uuid[])
        ON CONFLICT (transaction_id) DO NOTHING
        """,
        [document.transaction_id for document in ordered],
        [document.transaction_type for document in ordered],
        [document.reference_id for document in ordered],
        [document.notes for document in ordered],
        [document.reason for document in ordered],
        [document.actor for document in ordered],
        [document.source for document in ordered],
        [document.request_hash for document in ordered],
        [document.occurred_at or recorded_at for document in ordered],
        [len(document.lines) for document in ordered],
        [document.reverses_id for document in ordered],
        [document.reservation_id for document in ordered],
        recorded_at,
    )
    return int(status.rpartition(" ")[2])


async def insert_entries(
    connection: Connection, entries: Sequence[tuple[Document, Entry]], recorded_at: datetime
) -> None:
    """Write the ledger entries; their levels are locked, and the database checks every balance."""
    await connection.execute(
        """
        INSERT INTO ledger_entry (sku, warehouse_id, sequence, transaction_id, line_no, quantity_change,
                                  quantity_before, quantity_after, quantity_reserved_after, revision, unit_cost,
                                  unit_price, occurred_at, recorded_at)
        SELECT *, $14::timestamptz
          FROM unnest($1::text[], $2::text[], $3::bigint[], $4::uuid[], $5::integer[], $6::bigint[], $7::bigint[],
                      $8::bigint[], $9::bigint[], $10::bigint[], $11::numeric[], $12::numeric[], $13::timestamptz[])
        """,
        [entry.sku for _, entry in entries],
        [entry.warehouse_id for _, entry in entries],
        [entry.sequence for _, entry in entries],
        [document.transaction_id for document, _ in entries],
        [entry.line_no for _, entry in entries],
        [entry.quantity_change for _, entry in entries],
        [entry.quantity_before for _, entry in entries],
        [entry.quantity_after for _, entry in entries],
        [entry.quantity_reserved_after for _, entry in entries],
        [entry.revision for _, entry in entries],
        [entry.unit_cost for _, entry in entries],
        [entry.unit_price for _, entry in entries],
        [document.occurred_at or recorded_at for document, _ in entries],
        recorded_at,
    )


async def header(connection: Connection, transaction_id: UUID) -> asyncpg.Record | None:
    """A posted transaction without its lines."""
    return await connection.fetchrow(
        """
        SELECT transaction_id, transaction_type, reference_id, notes, reason, actor, source, occurred_at, recorded_at,
               line_count, reverses_id, reservation_id
          FROM stock_transaction
         WHERE transaction_id = $1
        """,
        transaction_id,
    )


async def warehouse_ids(connection: Connection, transaction_id: UUID) -> list[str]:
    """The warehouses that a transaction moved stock in."""
    rows = await connection.fetch(
        "SELECT DISTINCT warehouse_id FROM ledger_entry WHERE transaction_id = $1 ORDER BY warehouse_id", transaction_id
    )
    return [row["warehouse_id"] for row in rows]


async def reversal_of(connection: Connection, transaction_id: UUID) -> UUID | None:
    """The transaction that reversed this one, or None."""
    found: UUID | None = await connection.fetchval(
        "SELECT transaction_id FROM stock_transaction WHERE reverses_id = $1", transaction_id
    )
    return found


async def entries(connection: Connection, transaction_id: UUID) -> list[Entry]:
    """The ledger entries of a transaction in line order; at most 1,000."""
    rows = await connection.fetch(
        """
        SELECT line_no, sku, warehouse_id, quantity_change, quantity_before, quantity_after, quantity_reserved_after,
               sequence, revision, unit_cost, unit_price
          FROM ledger_entry
         WHERE transaction_id = $1
         ORDER BY line_no
        """,
        transaction_id,
    )
    return [Entry(*row) for row in rows]
