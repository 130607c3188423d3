"""A key that is restricted to warehouses neither sees nor touches stock elsewhere, by whatever route."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from libs.chassis.auth import file_entry, new_key
from services.inventory.app import create_app
from services.inventory.settings import Settings
from tests.inventory.client import Inventory, Json, a_document, a_line
from tests.stack import Database

HOME, ELSEWHERE = "BERLIN-1", "PARIS-1"


@pytest.fixture(scope="module")
def clerks_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A key that may act on BERLIN-1 only, and the file that knows it."""
    token, key = new_key("clerk", ["*"], [HOME])
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    keys.write_text(json.dumps([file_entry(key)]))
    return token, keys


@pytest.fixture(scope="module")
async def clerk(database: Database, clerks_key: tuple[str, Path]) -> AsyncIterator[httpx.AsyncClient]:
    """A client with that key."""
    token, keys = clerks_key
    url = SecretStr(database.url("inventory"))
    restricted = create_app(Settings(database_url=url, auth_mode="api-key", api_keys_file=keys))
    async with restricted.router.lifespan_context(restricted):
        transport = httpx.ASGITransport(restricted)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v1", headers=headers) as client:
            yield client


async def a_transaction_elsewhere(inventory: Inventory) -> str:
    lines = a_line(inventory.sku, 1), a_line(inventory.sku, 9, ELSEWHERE)
    return str((await inventory.post(a_document("RECEIPT", *lines))).json()["transactionId"])


async def a_reservation_elsewhere(inventory: Inventory) -> str:
    await inventory.receive(9, warehouse_id=ELSEWHERE)
    lines = [{"sku": inventory.sku, "warehouseId": ELSEWHERE, "quantity": 1}]
    body = {"reservationId": str(uuid4()), "lines": lines}
    return str((await inventory.http.post("/reservations", json=body)).json()["reservationId"])


Prepare = Callable[[Inventory], Awaitable[str]]
REFUSED: Final[list[tuple[str, str, Prepare | None, Json]]] = [
    ("POST", "/warehouses", None, {"warehouseId": ELSEWHERE, "name": "x"}),
    ("PATCH", f"/warehouses/{ELSEWHERE}", None, {"name": "x"}),
    ("POST", f"/warehouses/{ELSEWHERE}/archive", None, {}),
    ("GET", f"/stock-levels/{ELSEWHERE}/{{sku}}", None, {}),
    ("PATCH", f"/stock-levels/{ELSEWHERE}/{{sku}}/thresholds", None, {"reorderPoint": 1, "reorderQuantity": None}),
    ("POST", "/transactions", None, a_document("RECEIPT", a_line("{sku}", 1), a_line("{sku}", 1, ELSEWHERE))),
    ("GET", "/transactions/{id}", a_transaction_elsewhere, {}),
    ("POST", "/transactions/{id}/reversal", a_transaction_elsewhere, {"transactionId": str(uuid4())}),
    (
        "POST",
        "/transaction-batches",
        None,
        {"errorPolicy": "acceptValid", "transactions": [a_document("RECEIPT", a_line("{sku}", 1, ELSEWHERE))]},
    ),
    (
        "POST",
        "/reservations",
        None,
        {"reservationId": str(uuid4()), "lines": [{"sku": "{sku}", "warehouseId": ELSEWHERE, "quantity": 1}]},
    ),
    ("GET", "/reservations/{id}", a_reservation_elsewhere, {}),
    ("POST", "/reservations/{id}/fulfilments", a_reservation_elsewhere, {"transactionId": str(uuid4())}),
    ("POST", "/reservations/{id}/releases", a_reservation_elsewhere, {"lines": []}),
    (
        "POST",
        "/stock-repairs",
        None,
        {"repairId": str(uuid4()), "reason": "x", "items": [{"sku": "{sku}", "warehouseId": ELSEWHERE}]},
    ),
]


@pytest.mark.parametrize(("method", "path", "prepare", "body"), REFUSED, ids=lambda each: str(each)[:40])
async def test_stock_elsewhere_is_out_of_reach(
    inventory: Inventory, clerk: httpx.AsyncClient, method: str, path: str, prepare: Prepare | None, body: Json
) -> None:
    identifier = await prepare(inventory) if prepare else ""
    content = json.dumps(body).replace("{sku}", inventory.sku) if body else None
    headers = {"Content-Type": "application/json", "If-Match": "*"} if content else {}

    answer = await clerk.request(
        method, path.format(sku=inventory.sku, id=identifier), content=content, headers=headers
    )

    assert (answer.status_code, answer.json()["code"]) == (403, "warehouse-forbidden"), answer.text


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/stock-levels", lambda item: item["warehouseId"]),
        ("/stock-levels?asOf=2999-01-01T00:00:00Z", lambda item: item["warehouseId"]),
        ("/ledger-entries", lambda item: item["warehouseId"]),
    ],
)
async def test_lists_hold_what_is_at_home(
    inventory: Inventory, clerk: httpx.AsyncClient, path: str, shown: Callable[[Json], Any]
) -> None:
    await a_transaction_elsewhere(inventory)

    items = (await clerk.get(path, params={"sku": inventory.sku})).json()["items"]

    assert {shown(item) for item in items} == {HOME}


async def test_lists_of_documents_leave_out_those_that_reach_elsewhere(
    inventory: Inventory, clerk: httpx.AsyncClient
) -> None:
    own, foreign = (await inventory.receive(5))["transactionId"], await a_transaction_elsewhere(inventory)
    reserved = await a_reservation_elsewhere(inventory)

    transactions = (await clerk.get("/transactions", params={"limit": 500})).json()["items"]
    reservations = (await clerk.get("/reservations", params={"limit": 500})).json()["items"]

    assert {own, foreign} & {item["transactionId"] for item in transactions} == {own}
    assert reserved not in {item["reservationId"] for item in reservations}


async def test_an_export_holds_what_is_at_home(inventory: Inventory, clerk: httpx.AsyncClient) -> None:
    await a_transaction_elsewhere(inventory)

    lines = (await clerk.get("/exports/ledger-entries")).text.splitlines()

    assert {line.split(",")[1] for line in lines[1:]} == {HOME}


async def test_a_file_may_hold_any_warehouse_and_is_refused(inventory: Inventory, clerk: httpx.AsyncClient) -> None:
    answer = await clerk.post(
        "/imports",
        params={"kind": "opening-balances", "importId": str(uuid4())},
        content="sku,warehouseId,quantity\n",
        headers={"Content-Type": "text/csv"},
    )

    assert (answer.status_code, answer.json()["code"]) == (403, "warehouse-forbidden")
