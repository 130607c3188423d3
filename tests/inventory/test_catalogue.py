"""Products, categories and warehouses over REST."""

import asyncio
from typing import Any

import pytest

from tests.inventory.client import Inventory, a_document, a_line


async def test_a_product_is_created_once(inventory: Inventory) -> None:
    sku = f"{inventory.sku}/x y"
    body: dict[str, Any] = {"sku": sku, "name": "Chair", "unitCost": "12.5", "attributes": {"colour": ["red"]}}

    created = await inventory.http.post("/products", json=body)
    again = await inventory.http.post("/products", json={**body, "unitCost": 12.50})
    other = await inventory.http.post("/products", json={**body, "name": "Table"})

    assert (created.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert other.json()["code"] == "already-exists"
    read = await inventory.http.get(f"/products/{sku}")
    assert read.json() == created.json()
    assert (read.json()["unitCost"], read.json()["status"], read.json()["version"]) == ("12.5", "active", 1)


async def test_an_edit_needs_the_version_it_was_made_from(inventory: Inventory) -> None:
    path = f"/products/{inventory.sku}"
    tag = (await inventory.http.get(path)).headers["ETag"]

    without = await inventory.http.patch(path, json={"name": "New"})
    edited = await inventory.http.patch(path, json={"name": "New", "unitPrice": "3"}, headers={"If-Match": tag})
    stale = await inventory.http.patch(path, json={"name": "Newer"}, headers={"If-Match": tag})
    null = await inventory.http.patch(path, json={"name": None}, headers={"If-Match": "*"})

    assert (without.status_code, edited.status_code, stale.status_code, null.status_code) == (428, 200, 412, 422)
    assert (edited.json()["name"], edited.json()["unitPrice"], edited.json()["version"]) == ("New", "3", 2)


async def test_what_holds_stock_is_not_archived(inventory: Inventory) -> None:
    await inventory.receive(1)

    refused = await inventory.http.post(f"/products/{inventory.sku}/archive")
    await inventory.sell(1)
    archived = await inventory.http.post(f"/products/{inventory.sku}/archive")
    receipt = await inventory.post(a_document("RECEIPT", a_line(inventory.sku, 1)))

    assert (refused.status_code, refused.json()["code"]) == (409, "still-in-use")
    assert (archived.status_code, archived.json()["status"]) == (200, "archived")
    assert (receipt.status_code, receipt.json()["code"]) == (409, "archived")


async def test_archiving_and_receiving_at_once_never_leaves_stock_in_an_archived_product(inventory: Inventory) -> None:
    for number in range(10):
        sku = f"{inventory.sku}-{number}"
        await inventory.create_product(sku)

        await asyncio.gather(
            inventory.http.post(f"/products/{sku}/archive"), inventory.post(a_document("RECEIPT", a_line(sku, 1)))
        )

        status = (await inventory.http.get(f"/products/{sku}")).json()["status"]
        on_hand = (await inventory.level(sku))["quantityOnHand"]
        assert (status, on_hand) in {("active", 1), ("archived", 0)}


async def test_categories_form_a_tree_without_circles(inventory: Inventory) -> None:
    root, leaf = f"{inventory.sku}-root", f"{inventory.sku}-leaf"
    await inventory.http.post("/categories", json={"categoryId": root, "name": "Furniture"})
    await inventory.http.post("/categories", json={"categoryId": leaf, "name": "Chairs", "parentId": root})

    circle = await inventory.http.patch(f"/categories/{root}", json={"parentId": leaf}, headers={"If-Match": "*"})
    itself = await inventory.http.patch(f"/categories/{root}", json={"parentId": root}, headers={"If-Match": "*"})
    orphan = await inventory.http.post("/categories", json={"categoryId": "x", "name": "x", "parentId": "nobody"})
    own = await inventory.http.post("/categories", json={"categoryId": "own", "name": "x", "parentId": "own"})
    archive = await inventory.http.post(f"/categories/{root}/archive")

    assert (await inventory.http.get(f"/categories/{leaf}")).json()["path"] == [root, leaf]
    assert (circle.status_code, circle.json()["code"]) == (409, "category-circle")
    assert itself.json()["code"] == own.json()["code"] == "category-circle"
    assert (orphan.status_code, orphan.json()["code"]) == (422, "unknown-category")
    assert (archive.status_code, archive.json()["code"]) == (409, "still-in-use")


async def test_a_product_belongs_to_a_category_that_exists(inventory: Inventory) -> None:
    body = {"sku": f"{inventory.sku}-c", "name": "x", "categoryId": "nobody"}

    answer = await inventory.http.post("/products", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "unknown-category")


@pytest.mark.parametrize("timezone", ["Mars/Olympus", "", "../etc/passwd"])
async def test_a_warehouse_lies_in_a_time_zone(inventory: Inventory, timezone: str) -> None:
    answer = await inventory.http.post("/warehouses", json={"warehouseId": "W", "name": "W", "timezone": timezone})

    assert answer.status_code == 422


async def test_lists_come_in_pages(inventory: Inventory) -> None:
    for number in range(3):
        await inventory.create_product(f"{inventory.sku}-{number}")

    seen, cursor = [], None
    while True:
        parameters = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await inventory.http.get("/products", params=parameters)).json()
        seen += [item["sku"] for item in page["items"]]
        if (cursor := page["nextCursor"]) is None:
            break

    assert seen == sorted(seen)
    assert len(set(seen)) == len(seen) >= 4


async def test_nothing_is_put_into_an_archived_category(inventory: Inventory) -> None:
    category_id = f"C-{inventory.sku}"
    await inventory.http.post("/categories", json={"categoryId": category_id, "name": "x"})
    await inventory.http.post(f"/categories/{category_id}/archive")

    created = await inventory.http.post("/products", json={"sku": "Z", "name": "x", "categoryId": category_id})
    moved = await inventory.http.patch(
        f"/products/{inventory.sku}", json={"categoryId": category_id}, headers={"If-Match": "*"}
    )
    below = await inventory.http.post("/categories", json={"categoryId": "Z", "name": "x", "parentId": category_id})

    for answer in (created, moved, below):
        assert (answer.status_code, answer.json()["code"]) == (409, "archived")
