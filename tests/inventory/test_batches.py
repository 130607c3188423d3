"""Transaction batches: independent documents in one go."""

from tests.inventory.client import Inventory, Json, a_document, a_line


async def post_batch(inventory: Inventory, error_policy: str, *documents: Json) -> Json:
    answer = await inventory.http.post(
        "/transaction-batches", json={"errorPolicy": error_policy, "transactions": list(documents)}
    )
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def test_valid_documents_are_accepted_beside_refused_ones(inventory: Inventory) -> None:
    receipt, sale = a_document("RECEIPT", a_line(inventory.sku, 5)), a_document("SALE", a_line(inventory.sku, -9))

    result = await post_batch(inventory, "acceptValid", receipt, sale, receipt, {**receipt, "notes": "other"})

    assert [each["status"] for each in result["results"]] == ["posted", "rejected", "replayed", "rejected"]
    assert (result["posted"], result["replayed"], result["rejected"]) == (1, 1, 2)
    assert result["results"][1]["problem"]["code"] == "insufficient-stock"
    assert result["results"][3]["problem"]["code"] == "idempotency-key-reused"
    assert (await inventory.level())["quantityOnHand"] == 5


async def test_a_refused_document_leaves_no_level_behind(inventory: Inventory) -> None:
    receipt = a_document("RECEIPT", a_line(inventory.sku, 5))
    refused = a_document("ADJUSTMENT", a_line(inventory.sku, 1, "PARIS-1"), a_line(inventory.sku, -9), reason="found")

    result = await post_batch(inventory, "acceptValid", receipt, refused)

    levels = (await inventory.http.get("/stock-levels", params={"sku": inventory.sku})).json()["items"]
    assert (result["posted"], result["rejected"]) == (1, 1)
    assert [level["warehouseId"] for level in levels] == ["BERLIN-1"]


async def test_one_refused_document_refuses_all_when_asked(inventory: Inventory) -> None:
    receipt, sale = a_document("RECEIPT", a_line(inventory.sku, 5)), a_document("SALE", a_line(inventory.sku, -9))

    result = await post_batch(inventory, "rejectAll", receipt, sale)

    assert [each["problem"]["code"] for each in result["results"]] == ["batch-rejected", "insufficient-stock"]
    assert (await inventory.level())["revision"] == 0


async def test_a_batch_again_changes_nothing(inventory: Inventory) -> None:
    documents = [a_document("RECEIPT", a_line(inventory.sku, 1)) for _ in range(5)]
    await post_batch(inventory, "rejectAll", *documents)

    again = await post_batch(inventory, "rejectAll", *documents)

    assert (again["posted"], again["replayed"]) == (0, 5)
    assert (await inventory.level())["quantityOnHand"] == 5


async def test_documents_of_a_batch_see_each_other_in_order(inventory: Inventory) -> None:
    documents = [a_document("RECEIPT", a_line(inventory.sku, 5)), a_document("SALE", a_line(inventory.sku, -5))]

    result = await post_batch(inventory, "rejectAll", *documents)

    assert result["posted"] == 2
    assert [entry["quantityAfter"] for entry in await inventory.entries(sku=inventory.sku)] == [5, 0]


async def test_too_many_lines_in_all_are_refused(inventory: Inventory) -> None:
    documents = [a_document("RECEIPT", *[a_line("X", 1)] * 1000) for _ in range(11)]

    answer = await inventory.http.post(
        "/transaction-batches", json={"errorPolicy": "rejectAll", "transactions": documents}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed")


async def test_a_document_twice_in_a_refused_batch_was_not_posted_before(inventory: Inventory) -> None:
    receipt, sale = a_document("RECEIPT", a_line(inventory.sku, 5)), a_document("SALE", a_line(inventory.sku, -9))

    result = await post_batch(inventory, "rejectAll", receipt, receipt, sale)

    assert [each["status"] for each in result["results"]] == ["rejected"] * 3
    assert (await inventory.level())["revision"] == 0
