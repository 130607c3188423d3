"""The REST API against the real database."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from libs.chassis.database import Pool
from tests.reorder.factories import a_ledger_entry
from tests.reorder.test_consumer import announced, consume
from tests.stack import Database

POLICY: dict[str, Any] = {
    "sku": "WIDGET",
    "warehouseId": "BERLIN",
    "kind": "min_max",
    "reorderPoint": 10,
    "orderUpTo": 50,
}


async def only_recommendation(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/recommendations")
    (recommendation,) = answer.json()["items"]
    return dict(recommendation)


async def test_a_new_policy_is_evaluated_at_once(client: httpx.AsyncClient, pool: Pool) -> None:
    await consume(pool, a_ledger_entry(4))

    answer = await client.post("/reorder-policies", json=POLICY)

    assert answer.status_code == 201
    assert answer.headers["etag"] == '"1"'
    assert (await only_recommendation(client))["recommendedQuantity"] == 46
    assert [name for name, _ in await announced(pool)] == ["REORDER_TRIGGERED", "REORDER_RECOMMENDATION"]


async def test_an_item_that_inventory_has_never_stocked_is_an_empty_shelf(client: httpx.AsyncClient) -> None:
    await client.post("/reorder-policies", json=POLICY)

    assert (await only_recommendation(client))["recommendedQuantity"] == 50


async def test_an_item_whose_events_are_on_their_way_is_not_judged_yet(
    client: httpx.AsyncClient, database: Database
) -> None:
    inventory = await asyncpg.connect(database.superuser_url)
    await inventory.execute("INSERT INTO inventory.stock_level (sku, warehouse_id) VALUES ('WIDGET', 'BERLIN')")
    await inventory.close()

    await client.post("/reorder-policies", json=POLICY)

    assert (await client.get("/recommendations")).json()["items"] == []


async def test_the_same_policy_again_is_replayed_and_another_one_refused(client: httpx.AsyncClient) -> None:
    await client.post("/reorder-policies", json=POLICY)

    again = await client.post("/reorder-policies", json=POLICY)
    other = await client.post("/reorder-policies", json=POLICY | {"orderUpTo": 60})

    assert again.status_code == 200
    assert again.headers["idempotent-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (409, "already-exists")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"kind": "service_level"}, 422, "policy-kind-not-supported"),
        ({"kind": "magic"}, 422, "validation-failed"),
        ({"orderUpTo": 10}, 422, "order-up-to-too-low"),
        ({"reorderPoint": -1}, 422, "validation-failed"),
        ({"reorderPoint": False}, 422, "validation-failed"),
        ({"reorderPoint": "5"}, 422, "validation-failed"),
        ({"reorderPoint": 2**63}, 422, "validation-failed"),
        ({"surprise": 1}, 422, "validation-failed"),
        ({"sku": " "}, 422, "validation-failed"),
        ({"sku": "UNKNOWN"}, 422, "unknown-product"),
        ({"warehouseId": "UNKNOWN"}, 422, "unknown-warehouse"),
    ],
)
async def test_a_bad_policy_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, pool: Pool, change: dict[str, Any], status: int, code: str
) -> None:
    answer = await client.post("/reorder-policies", json=POLICY | change)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await pool.fetchval("SELECT count(*) FROM reorder_policy") == 0


async def test_editing_a_policy_needs_its_etag_and_evaluates_at_once(client: httpx.AsyncClient) -> None:
    created = await client.post("/reorder-policies", json=POLICY | {"sku": "a/b c"})
    url = "/reorder-policies/BERLIN/a%2Fb%20c"

    without = await client.patch(url, json={"orderUpTo": 80})
    stale = await client.patch(url, json={"orderUpTo": 80}, headers={"If-Match": '"7"'})
    edited = await client.patch(url, json={"orderUpTo": 80}, headers={"If-Match": created.headers["etag"]})

    assert (without.status_code, stale.status_code, edited.status_code) == (428, 412, 200)
    assert (edited.json()["reorderPoint"], edited.json()["orderUpTo"], edited.json()["version"]) == (10, 80, 2)
    assert (await client.get(url)).json() == edited.json()
    assert (await only_recommendation(client))["recommendedQuantity"] == 80


async def test_a_policy_of_a_warehouse_with_a_slash_is_found_under_its_encoded_id(client: httpx.AsyncClient) -> None:
    await client.post("/reorder-policies", json=POLICY | {"sku": "a/b c", "warehouseId": "W/1"})

    encoded = await client.get("/reorder-policies/W%2F1/a%2Fb%20c")
    plain_sku = await client.get("/reorder-policies/W%2F1/a/b c")
    plain_warehouse = await client.get("/reorder-policies/W/1/a%2Fb%20c")

    assert (encoded.json()["warehouseId"], encoded.json()["sku"]) == ("W/1", "a/b c")
    assert plain_sku.json() == encoded.json()
    assert plain_warehouse.status_code == 404


async def test_a_dismissed_recommendation_is_not_told_again(client: httpx.AsyncClient, pool: Pool) -> None:
    await client.post("/reorder-policies", json=POLICY)
    told = await only_recommendation(client)
    url = f"/recommendations/{told['recommendationId']}"

    answer = await client.patch(url, json={"status": "dismissed"}, headers={"If-Match": f'"{told["revision"]}"'})
    await consume(pool, a_ledger_entry(3))

    assert answer.status_code == 200
    assert (await client.get(url)).json()["status"] == "dismissed"
    assert len(await announced(pool)) == 2


async def test_a_snooze_needs_an_instant_in_the_future(client: httpx.AsyncClient) -> None:
    await client.post("/reorder-policies", json=POLICY)
    told = await only_recommendation(client)
    url, headers = f"/recommendations/{told['recommendationId']}", {"If-Match": "*"}
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()

    refused = await client.patch(url, json={"status": "snoozed"}, headers=headers)
    snoozed = await client.patch(url, json={"status": "snoozed", "snoozedUntil": tomorrow}, headers=headers)

    assert (refused.status_code, refused.json()["code"]) == (422, "snooze-not-ahead")
    assert (snoozed.status_code, snoozed.json()["status"]) == (200, "snoozed")


async def test_recommendations_are_filtered_and_paged(client: httpx.AsyncClient) -> None:
    for sku in ("WIDGET", "GADGET", "a/b c"):
        await client.post("/reorder-policies", json=POLICY | {"sku": sku})

    first = await client.get("/recommendations", params={"limit": 2, "status": "open"})
    second = await client.get(
        "/recommendations", params={"limit": 2, "status": "open", "cursor": first.json()["nextCursor"]}
    )
    one = await client.get("/recommendations", params={"sku": "GADGET", "warehouseId": "BERLIN"})

    skus = [item["sku"] for page in (first, second) for item in page.json()["items"]]
    assert sorted(skus) == ["GADGET", "WIDGET", "a/b c"]
    assert second.json()["nextCursor"] is None
    assert [item["sku"] for item in one.json()["items"]] == ["GADGET"]
    assert (await client.get("/recommendations", params={"colour": "red"})).status_code == 400


async def test_a_run_evaluates_every_item(client: httpx.AsyncClient, pool: Pool) -> None:
    await consume(pool, a_ledger_entry(4))
    await pool.execute(
        "INSERT INTO reorder_policy (sku, warehouse_id, kind, reorder_point, order_up_to)"
        " VALUES ('WIDGET', 'BERLIN', 'min_max', 10, 50)"
    )

    first, second = await client.post("/recommendation-runs"), await client.post("/recommendation-runs")

    assert first.json() == {"evaluated": 1, "opened": 1, "changed": 0, "closed": 0}
    assert second.json() == {"evaluated": 1, "opened": 0, "changed": 0, "closed": 0}


async def test_positions_consumers_and_outbox_are_shown(client: httpx.AsyncClient, pool: Pool) -> None:
    await consume(pool, a_ledger_entry(4, reserved=1))

    positions = (await client.get("/inventory-positions")).json()["items"]
    consumers = (await client.get("/consumers")).json()["items"]

    assert [(item["sku"], item["inventoryPosition"]) for item in positions] == [("WIDGET", 3)]
    assert len(consumers) == 8
    assert {item["lag"] for item in consumers} == {0}
    assert (await client.get("/outbox")).json() == {"depth": 0, "oldestAgeSeconds": 0.0, "refused": 0}
    assert (await client.get("/dead-letters")).json() == {"items": [], "nextCursor": None}


async def test_published_views_can_be_read_by_their_readers(client: httpx.AsyncClient, database: Database) -> None:
    await client.post("/reorder-policies", json=POLICY)

    for role in ("pipeline", "analytics", "batch"):
        reader = await asyncpg.connect(database.url(role))
        assert await reader.fetchval("SELECT recommended_quantity FROM reorder.recommendations_v1") == 50
        assert await reader.fetchval("SELECT order_up_to FROM reorder.policies_v1") == 50
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("SELECT FROM reorder.recommendation")
        await reader.close()
