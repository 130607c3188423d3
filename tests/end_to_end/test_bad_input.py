"""Input that must be refused, told why, and change nothing."""

import json
from typing import Any

import httpx
import pytest

from tests.end_to_end.stock import a_document, a_line, create_stock_item

SKU, WAREHOUSE = "GOOD-1", "FORT-1"
GOOD_LINE = a_line(SKU, WAREHOUSE, -1)


def sale(*lines: dict[str, Any], **facts: Any) -> bytes:
    return json.dumps(a_document("SALE", *(lines or (GOOD_LINE,)), **facts)).encode()


def without(field: str) -> bytes:
    document = a_document("SALE", GOOD_LINE)
    del document[field]
    return json.dumps(document).encode()


BAD_DOCUMENTS = {
    "malformed JSON": (b'{"transactionId": ', 400, "malformed-json"),
    "no body": (b"", 422, "validation-failed"),
    "not UTF-8": (b'{"notes": "\xff"}', 400, "malformed-json"),
    "an array": (b"[]", 422, "validation-failed"),
    "a field that nobody knows": (sale(colour="red"), 422, "validation-failed"),
    "a field that nobody knows, in a line": (sale(GOOD_LINE | {"colour": "red"}), 422, "validation-failed"),
    "no id": (without("transactionId"), 422, "validation-failed"),
    "no lines": (without("lines"), 422, "validation-failed"),
    "an empty list of lines": (sale(lines=[]), 422, "validation-failed"),
    "an id that is no UUID": (sale(transactionId="7"), 422, "validation-failed"),
    "a type that nobody knows": (sale(transactionType="GIFT"), 422, "validation-failed"),
    "quantityChange false": (sale(a_line(SKU, WAREHOUSE, False)), 422, "validation-failed"),
    "quantityChange as text": (sale(a_line(SKU, WAREHOUSE, "-1")), 422, "validation-failed"),
    "half a unit": (sale(a_line(SKU, WAREHOUSE, -0.5)), 422, "validation-failed"),
    "quantityChange null": (sale(a_line(SKU, WAREHOUSE, None)), 422, "wrong-line"),
    "more units than can be booked": (sale(a_line(SKU, WAREHOUSE, -(2**63))), 422, "validation-failed"),
    "an integer of 400 digits": (sale(a_line(SKU, WAREHOUSE, -(10**400))), 422, "validation-failed"),
    "no change": (sale(a_line(SKU, WAREHOUSE, 0)), 422, "wrong-sign"),
    "a sale that adds stock": (sale(a_line(SKU, WAREHOUSE, 1)), 422, "wrong-sign"),
    "a sku that nobody knows": (sale(a_line("GOOD-2", WAREHOUSE, -1)), 422, "unknown-product"),
    "a sku in other letters": (sale(a_line(SKU.lower(), WAREHOUSE, -1)), 422, "unknown-product"),
    "a warehouse that nobody knows": (sale(a_line(SKU, "NOWHERE-1", -1)), 422, "unknown-warehouse"),
    "an empty sku": (sale(a_line("", WAREHOUSE, -1)), 422, "validation-failed"),
    "a blank sku": (sale(a_line("   ", WAREHOUSE, -1)), 422, "validation-failed"),
    "a sku with a blank before it": (sale(a_line(f" {SKU}", WAREHOUSE, -1)), 422, "validation-failed"),
    "a NUL character in a sku": (sale(a_line("GOOD\x00", WAREHOUSE, -1)), 422, "validation-failed"),
    "a lone surrogate in a sku": (b'{"sku": "\\ud800"}', 400, "malformed-json"),
    "a sku of 65 characters": (sale(a_line("x" * 65, WAREHOUSE, -1)), 422, "validation-failed"),
    "a sku that is a number": (sale(a_line(7, WAREHOUSE, -1)), 422, "validation-failed"),  # type: ignore[arg-type]
    "more than there is": (sale(a_line(SKU, WAREHOUSE, -11)), 409, "insufficient-stock"),
    "more than there is, in two lines": (
        sale(a_line(SKU, WAREHOUSE, -6), a_line(SKU, WAREHOUSE, -6)),
        409,
        "insufficient-stock",
    ),
    "a good line beside a bad one": (sale(GOOD_LINE, a_line("GOOD-2", WAREHOUSE, -1)), 422, "unknown-product"),
    "1,001 lines": (sale(*[GOOD_LINE] * 1001), 422, "validation-failed"),
    "a time without zone": (sale(occurredAt="2011-09-01T12:00:00"), 422, "validation-failed"),
    "a time that is none": (sale(occurredAt="yesterday"), 422, "validation-failed"),
    "the future": (sale(occurredAt="2999-01-01T00:00:00Z"), 422, "occurred-in-future"),
    "an adjustment without reason": (
        json.dumps(a_document("ADJUSTMENT", GOOD_LINE)).encode(),
        422,
        "reason-missing",
    ),
    "a transfer into nothing": (json.dumps(a_document("TRANSFER", GOOD_LINE)).encode(), 422, "unbalanced-transfer"),
    "a price that is none": (sale(GOOD_LINE | {"unitPrice": "cheap"}), 422, "validation-failed"),
    "a price that is not finite": (sale(GOOD_LINE | {"unitPrice": "NaN"}), 422, "validation-failed"),
    "2 MB": (sale(notes="x" * 2_000_000), 413, "content-too-large"),
}


@pytest.fixture(scope="module", autouse=True)
async def stock_item(inventory: httpx.AsyncClient) -> None:
    """Ten units of the one stock item that the bad documents are about."""
    await create_stock_item(inventory, SKU, WAREHOUSE, 10)


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
async def test_a_bad_document_is_refused_and_changes_nothing(inventory: httpx.AsyncClient, name: str) -> None:
    body, status, code = BAD_DOCUMENTS[name]
    before = await books(inventory)

    response = await post(inventory, "transactions", body)

    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["detail"]
    assert problem["status"] == status
    assert await books(inventory) == before


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(sale(), "text/plain"), (b"transactionId=7", "application/x-www-form-urlencoded")],
)
async def test_a_body_that_is_not_declared_as_json_is_refused(
    inventory: httpx.AsyncClient, body: bytes, content_type: str
) -> None:
    before = await books(inventory)

    response = await inventory.post("transactions", content=body, headers={"Content-Type": content_type})

    assert response.status_code in {400, 415, 422}
    assert response.headers["Content-Type"] == "application/problem+json"
    assert await books(inventory) == before


async def test_every_short_line_of_a_document_is_named(inventory: httpx.AsyncClient) -> None:
    await create_stock_item(inventory, "GOOD-3", WAREHOUSE)
    body = sale(a_line(SKU, WAREHOUSE, -11), GOOD_LINE, a_line("GOOD-3", WAREHOUSE, -1))

    problem = (await post(inventory, "transactions", body)).json()

    assert [error["pointer"] for error in problem["errors"]] == ["/lines/0", "/lines/2"]
    assert "10 available, 11 asked" in problem["detail"]


async def test_an_id_cannot_be_used_for_another_document(inventory: httpx.AsyncClient) -> None:
    document = a_document("RECEIPT", a_line(SKU, WAREHOUSE, 1))
    first = await inventory.post("transactions", json=document)
    before = await books(inventory)

    again = await inventory.post("transactions", json=document)
    other = await inventory.post("transactions", json=document | {"notes": "another"})

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert await books(inventory) == before


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("stock-levels?colour=red", 400, "unknown-parameter"),
        ("stock-levels?limit=501", 422, "validation-failed"),
        ("stock-levels?cursor=nonsense", 400, "invalid-cursor"),
        ("stock-levels/FORT-1/NO-SUCH-SKU", 404, "not-found"),
        ("transactions/7", 422, "validation-failed"),
        ("no-such-thing", 404, "not-found"),
    ],
)
async def test_a_bad_question_is_answered_with_a_problem(
    inventory: httpx.AsyncClient, path: str, status: int, code: str
) -> None:
    response = await inventory.get(path)

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_without_a_key_nothing_is_answered(inventory: httpx.AsyncClient) -> None:
    response = await inventory.get("stock-levels", headers={"Authorization": "Bearer sfk_unknown_key"})

    assert response.status_code == 401
    assert response.headers["Content-Type"] == "application/problem+json"


async def post(inventory: httpx.AsyncClient, path: str, body: bytes) -> httpx.Response:
    return await inventory.post(path, content=body, headers={"Content-Type": "application/json"})


async def books(inventory: httpx.AsyncClient) -> tuple[Any, Any]:
    """All that a posted document would change of the stock item: its level and its ledger."""
    level = await inventory.get(f"stock-levels/{WAREHOUSE}/{SKU}")
    ledger = await inventory.get("ledger-entries", params={"sku": SKU, "warehouseId": WAREHOUSE, "limit": 500})
    assert level.status_code == ledger.status_code == 200
    return level.json(), ledger.json()
