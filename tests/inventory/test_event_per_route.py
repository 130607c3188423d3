"""Every route of the API that changes stock publishes what it did, in the transaction that did it."""

from collections.abc import Awaitable, Callable
from typing import Final
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from libs.chassis.database import Connection
from tests.inventory.client import Inventory, Json, a_document, a_line

Call = Callable[[Inventory, Connection], Awaitable[httpx.Response]]

UPDATE, DOCUMENT = "INVENTORY_UPDATE", "TRANSACTION"
OUT_OF_STOCK = "STOCK_LEVEL_CHANGE transaction OUT_OF_STOCK"
IN_STOCK = "STOCK_LEVEL_CHANGE transaction IN_STOCK"
NOTHING_MOVES: Final = {
    "POST /api/v1/products",
    "PATCH /api/v1/products/{sku}",
    "POST /api/v1/products/{sku}/archive",
    "POST /api/v1/categories",
    "PATCH /api/v1/categories/{category_id}",
    "POST /api/v1/categories/{category_id}/archive",
    "POST /api/v1/warehouses",
    "PATCH /api/v1/warehouses/{warehouse_id}",
    "POST /api/v1/warehouses/{warehouse_id}/archive",
}


async def sell_all(inventory: Inventory, _owner: Connection) -> httpx.Response:
    return await inventory.sell(5)


async def take_back(inventory: Inventory, _owner: Connection) -> httpx.Response:
    sold = (await inventory.sell(5)).json()["transactionId"]
    return await inventory.http.post(f"/transactions/{sold}/reversal", json={"transactionId": str(uuid4())})


async def post_batch(inventory: Inventory, _owner: Connection) -> httpx.Response:
    documents = [a_document("SALE", a_line(inventory.sku, -5)), a_document("RECEIPT", a_line(inventory.sku, 1))]
    body = {"errorPolicy": "rejectAll", "transactions": documents}
    return await inventory.http.post("/transaction-batches", json=body)


async def import_sale(inventory: Inventory, _owner: Connection) -> httpx.Response:
    content = (
        f"transactionId,transactionType,sku,warehouseId,quantityChange\n{uuid4()},SALE,{inventory.sku},BERLIN-1,-5"
    )
    return await inventory.http.post(
        "/imports",
        params={"kind": "transactions", "importId": str(uuid4())},
        content=content,
        headers={"Content-Type": "text/csv"},
    )


async def reserve_all(inventory: Inventory, _owner: Connection) -> httpx.Response:
    line = {"sku": inventory.sku, "warehouseId": "BERLIN-1", "quantity": 5}
    return await inventory.http.post("/reservations", json={"reservationId": str(uuid4()), "lines": [line]})


async def fulfil(inventory: Inventory, owner: Connection) -> httpx.Response:
    made = (await reserve_all(inventory, owner)).json()["reservationId"]
    return await inventory.http.post(f"/reservations/{made}/fulfilments", json={"transactionId": str(uuid4())})


async def release(inventory: Inventory, owner: Connection) -> httpx.Response:
    made = (await reserve_all(inventory, owner)).json()["reservationId"]
    return await inventory.http.post(f"/reservations/{made}/releases", json={})


async def set_thresholds(inventory: Inventory, _owner: Connection) -> httpx.Response:
    path = f"/stock-levels/BERLIN-1/{inventory.sku}/thresholds"
    body = {"reorderPoint": 5, "reorderQuantity": 9}
    return await inventory.http.patch(path, json=body, headers={"If-Match": "*"})


async def repair(inventory: Inventory, owner: Connection) -> httpx.Response:
    await owner.execute("UPDATE stock_level SET quantity_on_hand = 8 WHERE sku = $1", inventory.sku)
    items = [{"sku": inventory.sku, "warehouseId": "BERLIN-1"}]
    return await inventory.http.post(
        "/stock-repairs", json={"repairId": str(uuid4()), "reason": "drift", "items": items}
    )


async def undo_repair(inventory: Inventory, owner: Connection) -> httpx.Response:
    made = (await repair(inventory, owner)).json()["repairId"]
    return await inventory.http.post(f"/stock-repairs/{made}/undo", json={"repairId": str(uuid4()), "reason": "no"})


STOCK_MOVES: Final[dict[str, tuple[Call, list[str]]]] = {
    "POST /api/v1/transactions": (sell_all, [UPDATE, OUT_OF_STOCK, DOCUMENT]),
    "POST /api/v1/transactions/{transaction_id}/reversal": (take_back, [UPDATE, IN_STOCK, DOCUMENT]),
    "POST /api/v1/transaction-batches": (post_batch, [UPDATE, OUT_OF_STOCK, DOCUMENT, UPDATE, IN_STOCK, DOCUMENT]),
    "POST /api/v1/imports": (import_sale, [UPDATE, OUT_OF_STOCK, DOCUMENT]),
    "POST /api/v1/reservations": (reserve_all, ["STOCK_LEVEL_CHANGE reservation OUT_OF_STOCK"]),
    "POST /api/v1/reservations/{reservation_id}/fulfilments": (fulfil, [UPDATE, DOCUMENT]),
    "POST /api/v1/reservations/{reservation_id}/releases": (release, ["STOCK_LEVEL_CHANGE reservation IN_STOCK"]),
    "PATCH /api/v1/stock-levels/{warehouse_id}/{sku}/thresholds": (
        set_thresholds,
        ["STOCK_LEVEL_CHANGE thresholds LOW_STOCK"],
    ),
    "POST /api/v1/stock-repairs": (repair, ["STOCK_LEVEL_CHANGE repair IN_STOCK"]),
    "POST /api/v1/stock-repairs/{repair_id}/undo": (undo_repair, ["STOCK_LEVEL_CHANGE repair IN_STOCK"]),
}


def test_every_route_that_writes_is_known_to_move_stock_or_not(app: FastAPI) -> None:
    paths: dict[str, Json] = app.openapi()["paths"]
    writing = {f"{method.upper()} {path}" for path, item in paths.items() for method in item if method != "get"}

    assert writing == NOTHING_MOVES | STOCK_MOVES.keys()


@pytest.mark.parametrize("route", STOCK_MOVES)
async def test_a_route_that_moves_stock_publishes_it_in_the_same_transaction(
    inventory: Inventory, connection: Connection, owner: Connection, route: str
) -> None:
    call, wanted = STOCK_MOVES[route]
    await inventory.receive(5)

    answer = await call(inventory, owner)

    assert answer.status_code in {200, 201}, answer.text
    assert await published_with_the_level(connection, inventory.sku) == wanted
    if route.endswith("/undo"):
        await rebuild(inventory)


async def published_with_the_level(connection: Connection, sku: str) -> list[str]:
    """The events that were committed together with the present state of the level, in order."""
    rows = await connection.fetch(
        """
        SELECT convert_from(outbox.value, 'UTF8')::jsonb AS event
          FROM outbox JOIN stock_level AS level ON outbox.xmin = level.xmin
         WHERE level.sku = $1
         ORDER BY outbox.id
        """,
        sku,
    )
    return [
        " ".join(filter(None, (event["eventType"], event.get("cause"), event.get("stockStatus"))))
        for event in (row["event"] for row in rows)
    ]


async def rebuild(inventory: Inventory) -> None:
    """Leave no level behind that the audits would find."""
    items = [{"sku": inventory.sku, "warehouseId": "BERLIN-1"}]
    body = {"repairId": str(uuid4()), "reason": "drift", "items": items}
    assert (await inventory.http.post("/stock-repairs", json=body)).status_code == 201
