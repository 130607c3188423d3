"""The events that stock changes publish. No I/O."""

from collections.abc import Sequence
from datetime import datetime

from libs.events.envelope import document_event_id, stock_item_event_id
from libs.events.inventory import (
    InventoryUpdate,
    LevelChangeCause,
    StockLevelChange,
    TransactionLine,
    TransactionPosted,
)
from services.inventory.stock import StockLevel
from services.inventory.transaction import Document, Entry


def inventory_update(document: Document, entry: Entry, recorded_at: datetime) -> InventoryUpdate:
    """The event of one ledger entry."""
    return InventoryUpdate(
        event_id=stock_item_event_id("INVENTORY_UPDATE", entry.warehouse_id, entry.sku, entry.sequence),
        sku=entry.sku,
        warehouse_id=entry.warehouse_id,
        quantity_change=entry.quantity_change,
        timestamp=document.occurred_at or recorded_at,
        reference_id=document.reference_id,
        notes=document.notes,
        recorded_at=recorded_at,
        source=document.source,
        sequence=entry.sequence,
        revision=entry.revision,
        transaction_id=document.transaction_id,
        transaction_type=document.transaction_type,
        line_no=entry.line_no,
        quantity_on_hand=entry.quantity_after,
        quantity_reserved=entry.quantity_reserved_after,
        unit_cost=entry.unit_cost,
        unit_price=entry.unit_price,
    )


def transaction_posted(document: Document, entries: Sequence[Entry], recorded_at: datetime) -> TransactionPosted:
    """The event of one document."""
    return TransactionPosted(
        event_id=document_event_id("TRANSACTION", document.transaction_id, 1),
        quantity_change=sum(entry.quantity_change for entry in entries),
        timestamp=document.occurred_at or recorded_at,
        reference_id=document.reference_id,
        notes=document.notes,
        recorded_at=recorded_at,
        source=document.source,
        transaction_id=document.transaction_id,
        transaction_type=document.transaction_type,
        reverses_id=document.reverses_id,
        actor=document.actor,
        line_count=len(entries),
        lines=[
            TransactionLine(
                line_no=entry.line_no,
                sku=entry.sku,
                warehouse_id=entry.warehouse_id,
                quantity_change=entry.quantity_change,
                sequence=entry.sequence,
                unit_cost=entry.unit_cost,
                unit_price=entry.unit_price,
            )
            for entry in entries
        ],
    )


def stock_level_change(
    level: StockLevel, cause: LevelChangeCause, at: datetime, *, source: str = "api", reference_id: str | None = None
) -> StockLevelChange:
    """The event of a level as it stands at its present revision."""
    return StockLevelChange(
        event_id=stock_item_event_id("STOCK_LEVEL_CHANGE", level.warehouse_id, level.sku, level.revision),
        sku=level.sku,
        warehouse_id=level.warehouse_id,
        timestamp=at,
        reference_id=reference_id,
        recorded_at=at,
        source=source,
        revision=level.revision,
        quantity_on_hand=level.quantity_on_hand,
        quantity_reserved=level.quantity_reserved,
        quantity_available=level.quantity_available,
        reorder_point=level.reorder_point,
        reorder_quantity=level.reorder_quantity,
        stock_status=level.status,
        cause=cause,
    )
