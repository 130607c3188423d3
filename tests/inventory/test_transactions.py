"""Posting stock transactions over REST."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from libs.chassis.database import Connection
from tests.inventory.client import Inventory, Json, a_document, a_line


async def test_a_receipt_raises_the_level_and_answers_what_it_did(inventory: Inventory) -> None:
    document = a_document(
        "RECEIPT", a_line(inventory.sku, 5, unitCost="2.50"), referenceId="PO-1", notes="first delivery"
    )

    answer = await inventory.post(document)

    assert answer.status_code == 201
    body = answer.json()
    assert body["transactionId"] == document["transactionId"]
    assert body["referenceId"] == "PO-1"
    assert body["reversesId"] is None
    assert body["lines"] == [
        {
            "lineNo": 1,
            "sku": inventory.sku,
            "warehouseId": "BERLIN-1",
            "quantityChange": 5,
            "quantityAfter": 5,
            "sequence": 1,
            "unitCost": "2.5",
            "unitPrice": None,
        }
    ]
    level = await inventory.level()
    assert (level["quantityOnHand"], level["quantityAvailable"], level["sequence"]) == (5, 5, 1)


async def test_a_sale_beyond_the_stock_is_refused_with_both_numbers_and_changes_nothing(inventory: Inventory) -> None:
    await inventory.receive(3)

    answer = await inventory.sell(5)

    assert answer.status_code == 409
    problem = answer.json()
    assert problem["code"] == "insufficient-stock"
    assert problem["detail"] == f"{inventory.sku} in BERLIN-1: 3 available, 5 asked"
    assert problem["errors"] == [{"pointer": "/lines/0", "detail": problem["detail"]}]
    assert (await inventory.level())["quantityOnHand"] == 3


async def test_every_short_line_is_listed(inventory: Inventory) -> None:
    await inventory.receive(3)
    document = a_document(
        "SALE", a_line(inventory.sku, -2), a_line(inventory.sku, -2), a_line(inventory.sku, -1, "PARIS-1")
    )

    answer = await inventory.post(document)

    assert answer.status_code == 409
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/lines/1", "/lines/2"]


async def test_a_refused_document_leaves_not_even_an_empty_level(inventory: Inventory, connection: Connection) -> None:
    answer = await inventory.post(a_document("SALE", a_line(inventory.sku, -1)))

    assert answer.status_code == 409
    assert await connection.fetchval("SELECT count(*) FROM stock_level WHERE sku = $1", inventory.sku) == 0


async def test_the_same_document_again_answers_the_first_result(inventory: Inventory) -> None:
    document = a_document("RECEIPT", a_line(inventory.sku, 5, unitCost="2.50"))
    first = await inventory.post(document)
    document["lines"][0]["unitCost"] = 2.5

    second = await inventory.post(document)

    assert (first.status_code, second.status_code) == (201, 200)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.json() == first.json()
    assert (await inventory.level())["quantityOnHand"] == 5


async def test_another_document_under_the_same_id_is_refused(inventory: Inventory) -> None:
    document = a_document("RECEIPT", a_line(inventory.sku, 5))
    await inventory.post(document)

    answer = await inventory.post({**document, "notes": "another"})

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("transaction_type", "quantity_change"),
    [
        ("RECEIPT", -1),
        ("RETURN", -1),
        ("OPENING_BALANCE", -1),
        ("SALE", 1),
        ("WRITE_OFF", 1),
        ("ADJUSTMENT", 0),
        ("SALE", 0),
    ],
)
async def test_a_sign_that_the_type_does_not_take_is_refused(
    inventory: Inventory, transaction_type: str, quantity_change: int
) -> None:
    answer = await inventory.post(a_document(transaction_type, a_line(inventory.sku, quantity_change), reason="test"))

    assert (answer.status_code, answer.json()["code"]) == (422, "wrong-sign")
    assert answer.json()["errors"][0]["pointer"] == "/lines/0/quantityChange"


async def test_an_adjustment_needs_a_reason(inventory: Inventory) -> None:
    answer = await inventory.post(a_document("ADJUSTMENT", a_line(inventory.sku, 1)))

    assert (answer.status_code, answer.json()["code"]) == (422, "reason-missing")


async def test_a_transfer_moves_units_and_must_sum_to_zero(inventory: Inventory) -> None:
    await inventory.receive(10)
    legs = [a_line(inventory.sku, -4), a_line(inventory.sku, 4, "PARIS-1")]

    moved = await inventory.post(a_document("TRANSFER", *legs))
    unbalanced = await inventory.post(a_document("TRANSFER", legs[0], a_line(inventory.sku, 3, "PARIS-1")))

    assert moved.status_code == 201
    assert (await inventory.level())["quantityOnHand"] == 6
    assert (await inventory.level(warehouse_id="PARIS-1"))["quantityOnHand"] == 4
    assert (unbalanced.status_code, unbalanced.json()["code"]) == (422, "unbalanced-transfer")


async def test_a_transfer_leaves_its_warehouse(inventory: Inventory) -> None:
    await inventory.receive(10)

    answer = await inventory.post(a_document("TRANSFER", a_line(inventory.sku, -4), a_line(inventory.sku, 4)))

    assert (answer.status_code, answer.json()["code"]) == (422, "wrong-line")
    assert answer.json()["detail"].endswith(f"{inventory.sku} stays in BERLIN-1")


async def test_a_count_sets_the_stock_to_what_was_found(inventory: Inventory) -> None:
    await inventory.receive(10)
    line = {"sku": inventory.sku, "warehouseId": "BERLIN-1", "countedQuantity": 7, "expectedQuantity": 10}

    counted = await inventory.post(a_document("COUNT", line))
    outdated = await inventory.post(a_document("COUNT", line))

    assert counted.status_code == 201
    assert counted.json()["lines"][0]["quantityChange"] == -3
    assert (outdated.status_code, outdated.json()["code"]) == (409, "count-conflict")
    assert (await inventory.level())["quantityOnHand"] == 7


async def test_unknown_products_and_warehouses_are_named_per_line(inventory: Inventory) -> None:
    known = a_line(inventory.sku, 1)

    product = await inventory.post(a_document("RECEIPT", known, a_line("NOBODY", 1)))
    warehouse = await inventory.post(a_document("RECEIPT", known, a_line(inventory.sku, 1, "NOWHERE")))

    assert (product.status_code, product.json()["code"]) == (422, "unknown-product")
    assert product.json()["errors"] == [{"pointer": "/lines/1", "detail": "There is no product NOBODY"}]
    assert (warehouse.status_code, warehouse.json()["code"]) == (422, "unknown-warehouse")
    assert (await inventory.level())["revision"] == 0


async def test_what_will_happen_has_not_happened(inventory: Inventory) -> None:
    now = datetime.now(UTC)
    soon = a_document("RECEIPT", a_line(inventory.sku, 1), occurredAt=(now + timedelta(minutes=4)).isoformat())
    later = a_document("RECEIPT", a_line(inventory.sku, 1), occurredAt=(now + timedelta(minutes=6)).isoformat())

    assert (await inventory.post(soon)).status_code == 201
    refused = await inventory.post(later)

    assert (refused.status_code, refused.json()["code"]) == (422, "occurred-in-future")


BAD_BODIES: dict[str, Json] = {
    "unknown field": {"colour": "red"},
    "no lines": {"lines": []},
    "1,001 lines": {"lines": [a_line("X", 1)] * 1001},
    "boolean quantity": {"lines": [{**a_line("X", 1), "quantityChange": False}]},
    "text quantity": {"lines": [{**a_line("X", 1), "quantityChange": "5"}]},
    "fraction": {"lines": [{**a_line("X", 1), "quantityChange": 1.5}]},
    "beyond 64 bits": {"lines": [{**a_line("X", 1), "quantityChange": 2**63}]},
    "blank sku": {"lines": [a_line(" ", 1)]},
    "sku with control character": {"lines": [a_line("a\u0007", 1)]},
    "NUL in notes": {"notes": "a\u0000b"},
    "negative cost": {"lines": [a_line("X", 1, unitCost="-1")]},
    "cost beyond the column": {"lines": [a_line("X", 1, unitCost="1000000000000")]},
    "no type": {"transactionType": "GIFT"},
    "local time": {"occurredAt": "2026-01-01T00:00:00"},
    "time before time": {"occurredAt": "0001-01-01T00:00:00+14:00"},
    "time after time": {"occurredAt": "9999-12-31T23:59:59-14:00"},
    "id": {"transactionId": "one"},
}


@pytest.mark.parametrize("fault", BAD_BODIES)
async def test_a_wrong_body_is_refused(inventory: Inventory, fault: str) -> None:
    document = {**a_document("RECEIPT", a_line("X", 1)), **BAD_BODIES[fault]}

    answer = await inventory.post(document)

    assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed"), answer.text


@pytest.mark.parametrize("sku", ["", " ", "A\n", "x" * 65])
async def test_a_wrong_id_is_told_in_words(inventory: Inventory, sku: str) -> None:
    body = (await inventory.post(a_document("RECEIPT", a_line(sku, 1)))).json()
    assert body["detail"] == "/lines/0/sku: Must be 1-64 printable characters, no blanks at the ends"


async def test_a_line_that_the_type_does_not_take_is_told(inventory: Inventory) -> None:
    line = {"sku": inventory.sku, "warehouseId": "BERLIN-1", "countedQuantity": 1}
    body = (await inventory.post(a_document("RECEIPT", line))).json()
    assert (body["code"], body["detail"]) == ("wrong-line", "RECEIPT does not take these lines; faults: 1")
    assert body["errors"] == [{"pointer": "/lines/0", "detail": "Takes quantityChange and no countedQuantity"}]


async def test_an_unknown_transaction_is_not_found(inventory: Inventory) -> None:
    answer = await inventory.http.get(f"/transactions/{uuid4()}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


async def test_a_posted_transaction_can_be_read_and_listed(inventory: Inventory) -> None:
    posted = await inventory.receive(2)
    reference = f"REF-{inventory.sku}"
    await inventory.post(a_document("RECEIPT", a_line(inventory.sku, 1), referenceId=reference))

    read = await inventory.http.get(f"/transactions/{posted['transactionId']}")
    listed = await inventory.http.get("/transactions", params={"referenceId": reference})

    assert read.json() == posted
    assert [item["referenceId"] for item in listed.json()["items"]] == [reference]


async def test_balances_that_leave_64_bits_are_refused(inventory: Inventory) -> None:
    lines = [a_line(inventory.sku, 10**15)] * 1000

    answers = [(await inventory.post(a_document("RECEIPT", *lines))) for _ in range(10)]

    assert [answer.status_code for answer in answers] == [201] * 9 + [422]
    assert answers[-1].json()["code"] == "quantity-out-of-range"
