"""Repairing levels that do not agree with the ledger."""

from uuid import uuid4

from libs.chassis.database import Connection, Pool
from services.inventory import audits, reservations
from tests.inventory.client import Inventory, Json, a_document, a_line


def a_repair(sku: str) -> Json:
    return {
        "repairId": str(uuid4()),
        "planId": "plan-1",
        "reason": "level differs from the ledger",
        "items": [{"sku": sku, "warehouseId": "BERLIN-1"}],
    }


async def let_the_level_drift(owner: Connection, sku: str) -> None:
    """What only somebody with the owner's password can do."""
    await owner.execute("UPDATE stock_level SET quantity_on_hand = quantity_on_hand + 3 WHERE sku = $1", sku)


async def test_a_level_is_rebuilt_from_the_ledger_and_the_audit_is_clean_again(
    inventory: Inventory, owner: Connection, pool: Pool
) -> None:
    await inventory.receive(5)
    await let_the_level_drift(owner, inventory.sku)
    assert (await audits.run(pool))["A1"] == [f"BERLIN-1:{inventory.sku}"]
    body = a_repair(inventory.sku)

    repaired = await inventory.http.post("/stock-repairs", json=body)
    again = await inventory.http.post("/stock-repairs", json=body)
    clean = await inventory.http.post("/stock-repairs", json=a_repair(inventory.sku))

    assert repaired.status_code == 201
    level = repaired.json()["levels"][0]
    assert (level["onHandBefore"], level["onHandAfter"]) == (8, 5)
    assert (again.status_code, again.json()) == (200, repaired.json())
    assert clean.json()["levels"] == []
    assert (await audits.run(pool))["A1"] == []


async def test_a_repair_is_undone_unless_the_level_has_changed_since(inventory: Inventory, owner: Connection) -> None:
    await inventory.receive(5)
    await let_the_level_drift(owner, inventory.sku)
    first = (await inventory.http.post("/stock-repairs", json=a_repair(inventory.sku))).json()["repairId"]

    undone = await inventory.http.post(f"/stock-repairs/{first}/undo", json={"repairId": str(uuid4()), "reason": "no"})
    assert undone.status_code == 201, undone.text
    assert (await inventory.level())["quantityOnHand"] == 8
    second = (await inventory.http.post("/stock-repairs", json=a_repair(inventory.sku))).json()["repairId"]
    await inventory.receive(1)
    outdated = await inventory.http.post(
        f"/stock-repairs/{second}/undo", json={"repairId": str(uuid4()), "reason": "no"}
    )

    assert (outdated.status_code, outdated.json()["code"]) == (409, "repair-outdated")
    assert (await inventory.level())["quantityOnHand"] == 6


async def test_nothing_is_posted_on_a_level_that_drifted(inventory: Inventory, owner: Connection) -> None:
    await inventory.receive(5)
    await let_the_level_drift(owner, inventory.sku)

    refused = await inventory.sell(6)
    repaired = await inventory.http.post("/stock-repairs", json=a_repair(inventory.sku))
    sold = await inventory.sell(5)

    assert (refused.status_code, refused.json()["code"]) == (409, "stock-inconsistent")
    assert (repaired.status_code, sold.status_code) == (201, 201)


async def test_a_level_that_does_not_hold_what_is_overdue_waits_for_its_repair(
    inventory: Inventory, owner: Connection, pool: Pool
) -> None:
    sound = f"{inventory.sku}-sound"
    await inventory.create_product(sound)
    for sku in (inventory.sku, sound):
        await inventory.receive(10, sku)
        held = {"sku": sku, "warehouseId": "BERLIN-1", "quantity": 4}
        await inventory.http.post("/reservations", json={"reservationId": str(uuid4()), "lines": [held]})
        await owner.execute("UPDATE allocation SET expires_at = now() WHERE sku = $1", sku)
    await owner.execute("UPDATE stock_level SET quantity_reserved = 1 WHERE sku = $1", inventory.sku)

    refused = await inventory.sell(1)
    both = await inventory.post(a_document("SALE", a_line(sound, -1), a_line(inventory.sku, -1)))
    swept = await reservations.sweep(pool, most_holds=1_000)
    repaired = await inventory.http.post("/stock-repairs", json=a_repair(inventory.sku))
    sold = await inventory.sell(10)

    for answer in (refused, both):
        assert (answer.status_code, answer.json()["code"]) == (409, "stock-inconsistent"), answer.text
    assert swept == 1
    assert [level["reservedAfter"] for level in repaired.json()["levels"]] == [4]
    assert sold.status_code == 201, sold.text
