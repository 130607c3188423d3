"""Valid things of the trade, with only the facts that matter to a test spelled out."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from libs.events.envelope import stock_item_event_id
from libs.events.inventory import InventoryUpdate, TransactionType

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def an_inventory_update(sku: str = "LAPTOP-001", sequence: int = 1, **facts: Any) -> InventoryUpdate:
    """The `sequence`-th ledger entry of a sku: a sale of one unit, unless said otherwise."""
    warehouse_id = facts.pop("warehouse_id", "BERLIN-1")
    fields: dict[str, Any] = {
        "event_id": stock_item_event_id("INVENTORY_UPDATE", warehouse_id, sku, sequence),
        "quantity_change": -1,
        "timestamp": NOON,
        "recorded_at": NOON,
        "source": "api",
        "revision": sequence,
        "transaction_id": _document(warehouse_id, sku, sequence),
        "transaction_type": TransactionType.SALE,
        "line_no": 1,
        "quantity_on_hand": 100,
        "quantity_reserved": 0,
    }
    return InventoryUpdate(sku=sku, warehouse_id=warehouse_id, sequence=sequence, **{**fields, **facts})


def _document(warehouse_id: str, sku: str, sequence: int) -> UUID:
    return stock_item_event_id("document", warehouse_id, sku, sequence)


def an_eight_field_message(**facts: Any) -> dict[str, Any]:
    """What a third party sends that knows only the base fields."""
    return {
        "eventId": str(uuid4()),
        "eventType": "INVENTORY_UPDATE",
        "sku": "LAPTOP-001",
        "warehouseId": "WAREHOUSE-001",
        "quantityChange": -2,
        "timestamp": "2024-01-01T00:00:00Z",
        "referenceId": "ORDER-12345",
        "notes": "Sale transaction",
        **facts,
    }
