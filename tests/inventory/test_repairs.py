"""Repairing levels that do not agree with the ledger."""

from uuid import uuid4

from libs.chassis.database import Connection, Pool
from services.inventory import audits
from tests.inventory.client import Inventory, Json


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
