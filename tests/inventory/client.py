"""What tests send to the inventory API, with only the facts that matter spelled out."""

from itertools import count
from typing import Any
from uuid import uuid4

import httpx

Json = dict[str, Any]
_numbers = count(1)


def a_line(sku: str, quantity_change: int, warehouse_id: str = "BERLIN-1", **facts: Any) -> Json:
    """A line of a document."""
    return {"sku": sku, "warehouseId": warehouse_id, "quantityChange": quantity_change, **facts}


def a_document(transaction_type: str, *lines: Json, **facts: Any) -> Json:
    """A stock transaction with an id of its own."""
    return {"transactionId": str(uuid4()), "transactionType": transaction_type, "lines": list(lines), **facts}


class Inventory:
    """The REST API of the inventory service."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.sku = f"SKU-{next(_numbers)}"

    async def create_product(self, sku: str) -> None:
        answer = await self.http.post("/products", json={"sku": sku, "name": sku})
        assert answer.status_code in {200, 201}, answer.text

    async def create_warehouse(self, warehouse_id: str) -> None:
        answer = await self.http.post("/warehouses", json={"warehouseId": warehouse_id, "name": warehouse_id})
        assert answer.status_code in {200, 201}, answer.text

    async def post(self, document: Json) -> httpx.Response:
        """Post a stock transaction."""
        return await self.http.post("/transactions", json=document)

    async def receive(self, quantity: int, sku: str | None = None, warehouse_id: str = "BERLIN-1") -> Json:
        """Receive units; the answer's body."""
        answer = await self.post(a_document("RECEIPT", a_line(sku or self.sku, quantity, warehouse_id)))
        assert answer.status_code == 201, answer.text
        body: Json = answer.json()
        return body

    async def sell(self, quantity: int, sku: str | None = None) -> httpx.Response:
        """Sell units."""
        return await self.post(a_document("SALE", a_line(sku or self.sku, -quantity)))

    async def level(self, sku: str | None = None, warehouse_id: str = "BERLIN-1") -> Json:
        """The stock level."""
        answer = await self.http.get(f"/stock-levels/{warehouse_id}/{sku or self.sku}")
        assert answer.status_code == 200, answer.text
        body: Json = answer.json()
        return body

    async def entries(self, **filters: Any) -> list[Json]:
        """Ledger entries."""
        answer = await self.http.get("/ledger-entries", params={"limit": 500, **filters})
        assert answer.status_code == 200, answer.text
        items: list[Json] = answer.json()["items"]
        return items
