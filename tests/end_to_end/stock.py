"""Products, warehouses and documents of the end-to-end tests."""

from typing import Any
from uuid import uuid4

import httpx

# Before the replayed week, so that the pipeline's clock stays at its last day.
OCCURRED_AT = "2011-09-01T12:00:00Z"


async def create_stock_item(inventory: httpx.AsyncClient, sku: str, warehouse_id: str, on_hand: int = 0) -> None:
    """A stock item of the test's own with so many units."""
    for path, body in (
        ("products", {"sku": sku, "name": sku}),
        ("warehouses", {"warehouseId": warehouse_id, "name": warehouse_id}),
    ):
        response = await inventory.post(path, json=body)
        assert response.status_code in {200, 201}, response.text
    if on_hand:
        response = await inventory.post("transactions", json=a_document("RECEIPT", a_line(sku, warehouse_id, on_hand)))
        assert response.status_code == 201, response.text


def a_line(sku: str, warehouse_id: str, quantity_change: Any) -> dict[str, Any]:
    """One line of a document."""
    return {"sku": sku, "warehouseId": warehouse_id, "quantityChange": quantity_change}


def a_document(transaction_type: str, *lines: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """A document with an id of its own."""
    document = {
        "transactionId": str(uuid4()),
        "transactionType": transaction_type,
        "occurredAt": OCCURRED_AT,
        "lines": list(lines),
    }
    return document | facts
