"""Taking transactions back, and what was on hand when."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from tests.inventory.client import Inventory, a_document, a_line


async def test_a_transaction_is_reversed_once(inventory: Inventory) -> None:
    receipt = await inventory.receive(5)
    path = f"/transactions/{receipt['transactionId']}/reversal"
    body = {"transactionId": str(uuid4()), "notes": "wrong delivery"}

    reversal = await inventory.http.post(path, json=body)
    again = await inventory.http.post(path, json=body)
    second = await inventory.http.post(path, json={"transactionId": str(uuid4())})

    assert reversal.status_code == 201
    assert reversal.json()["reversesId"] == receipt["transactionId"]
    assert (reversal.json()["transactionType"], reversal.json()["lines"][0]["quantityChange"]) == ("ADJUSTMENT", -5)
    assert (again.status_code, again.json()) == (200, reversal.json())
    assert (second.status_code, second.json()["code"]) == (409, "already-reversed")
    assert (await inventory.level())["quantityOnHand"] == 0


async def test_a_reversal_is_not_reversed(inventory: Inventory) -> None:
    receipt = await inventory.receive(5)
    body = {"transactionId": str(uuid4())}
    await inventory.http.post(f"/transactions/{receipt['transactionId']}/reversal", json=body)

    answer = await inventory.http.post(
        f"/transactions/{body['transactionId']}/reversal", json={"transactionId": str(uuid4())}
    )

    assert (answer.status_code, answer.json()["code"]) == (409, "not-reversible")


async def test_units_that_are_gone_cannot_be_taken_back(inventory: Inventory) -> None:
    receipt = await inventory.receive(5)
    await inventory.sell(3)

    answer = await inventory.http.post(
        f"/transactions/{receipt['transactionId']}/reversal", json={"transactionId": str(uuid4())}
    )

    assert (answer.status_code, answer.json()["code"]) == (409, "insufficient-stock")


async def test_the_past_reads_as_it_was_known_or_as_it_happened(inventory: Inventory) -> None:
    now = datetime.now(UTC)
    await inventory.receive(5)
    late = a_document("RECEIPT", a_line(inventory.sku, 2), occurredAt=(now - timedelta(days=2)).isoformat())
    await inventory.post(late)
    path = f"/stock-levels/BERLIN-1/{inventory.sku}"
    yesterday = (now - timedelta(days=1)).isoformat()

    recorded = await inventory.http.get(path, params={"asOf": yesterday})
    occurred = await inventory.http.get(path, params={"asOf": yesterday, "basis": "occurred"})
    present = await inventory.http.get(path, params={"asOf": datetime.now(UTC).isoformat()})

    assert [each.json()["quantityOnHand"] for each in (recorded, occurred, present)] == [0, 2, 7]


async def test_the_past_of_many_levels_reads_like_that_of_one(inventory: Inventory) -> None:
    now = datetime.now(UTC)
    yesterday = (now - timedelta(days=1)).isoformat()
    for warehouse in ("BERLIN-1", "PARIS-1"):
        await inventory.receive(5, warehouse_id=warehouse)
        early = a_document("RECEIPT", a_line(inventory.sku, 2, warehouse), occurredAt=yesterday)
        await inventory.post(early)

    async def listed(**parameters: str) -> list[tuple[str, int, int]]:
        found: list[tuple[str, int, int]] = []
        cursor: dict[str, str] = {}
        while True:
            query = {"sku": inventory.sku, "limit": "1", **parameters, **cursor}
            page = (await inventory.http.get("/stock-levels", params=query)).json()
            found += [(item["warehouseId"], item["quantityOnHand"], item["entries"]) for item in page["items"]]
            if page["nextCursor"] is None:
                return found
            cursor = {"cursor": page["nextCursor"]}

    assert await listed(asOf=yesterday) == [("BERLIN-1", 0, 0), ("PARIS-1", 0, 0)]
    assert await listed(asOf=yesterday, basis="occurred") == [("BERLIN-1", 2, 1), ("PARIS-1", 2, 1)]
    assert await listed(asOf=datetime.now(UTC).isoformat()) == [("BERLIN-1", 7, 2), ("PARIS-1", 7, 2)]
    status = await inventory.http.get("/stock-levels", params={"asOf": yesterday, "status": "IN_STOCK"})
    assert status.status_code == 422


async def test_a_number_is_no_instant(inventory: Inventory) -> None:
    answer = await inventory.http.get(f"/stock-levels/BERLIN-1/{inventory.sku}", params={"asOf": "0.5"})

    assert answer.status_code == 422
