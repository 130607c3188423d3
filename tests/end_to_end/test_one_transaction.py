"""One stock transaction on its way through the house, as README and docs/architecture.md tell it."""

from dataclasses import dataclass
from typing import Any

import httpx
import polars as pl
import pytest
from deltalake import DeltaTable

from deploy.local.stack import Stack
from tests.end_to_end.quiet import Quiet
from tests.end_to_end.stock import a_document, a_line, create_stock_item
from tools.demo.catching_up import catch_up
from tools.demo.stockflow import Stockflow
from tools.replay import api
from tools.replay.catalogue import MinMaxPolicy

SKU, WAREHOUSE = "JOURNEY-1", "DEPOT-1"
ITEM = {"sku": SKU, "warehouseId": WAREHOUSE}


@dataclass(frozen=True, slots=True)
class Journey:
    """A sale of 7 of 10 units, under a policy that orders up to 20 at 5 units."""

    sale: dict[str, Any]
    posted: dict[str, Any]


@pytest.fixture(scope="module")
async def journey(stack: Stack, stockflow: Stockflow, inventory: httpx.AsyncClient) -> Journey:
    """The sale, after every service has seen it."""
    await create_stock_item(inventory, SKU, WAREHOUSE, 10)
    inventory_url, reorder_url, key = (stack.env[name] for name in ("INVENTORY_URL", "REORDER_URL", "API_KEY"))
    async with api.connected(inventory_url, reorder_url, key, connections=1) as client:
        assert await client.create_policy(MinMaxPolicy(SKU, WAREHOUSE, 5, 20)) is None
    sale = a_document("SALE", a_line(SKU, WAREHOUSE, -7), referenceId="ORDER-1")
    response = await inventory.post("transactions", json=sale)
    assert response.status_code == 201, response.text
    await catch_up(stockflow, Quiet())
    return Journey(sale, response.json())


async def test_1_and_2_inventory_has_written_document_ledger_entry_and_level(
    stockflow: Stockflow, journey: Journey
) -> None:
    transaction_id = journey.sale["transactionId"]

    document = await stockflow.get("inventory", f"transactions/{transaction_id}")
    [entry] = (await stockflow.get("inventory", "ledger-entries", transactionId=transaction_id))["items"]
    level = await stockflow.get("inventory", f"stock-levels/{WAREHOUSE}/{SKU}")

    assert document == journey.posted
    assert (entry["sequence"], entry["quantityBefore"], entry["quantityAfter"]) == (2, 10, 3)
    assert (level["sequence"], level["quantityOnHand"]) == (2, 3)


async def test_3_the_relay_has_emptied_the_outbox(stockflow: Stockflow, journey: Journey) -> None:
    assert (await stockflow.get("inventory", "outbox"))["depth"] == 0


async def test_4_and_5_the_stream_has_summed_the_movement(stockflow: Stockflow, journey: Journey) -> None:
    [day] = (await stockflow.get("pipeline", "daily-movements", **ITEM, transactionType="SALE"))["items"]

    assert (day["date"], day["movements"], day["unitsOut"], day["demand"]) == ("2011-09-01", 1, 7, 7)


async def test_6_velocity_and_trend_are_calculated(stockflow: Stockflow, journey: Journey) -> None:
    [velocity] = (await stockflow.get("analytics", "metrics/velocity", **ITEM))["items"]
    [trend] = (await stockflow.get("analytics", "metrics/trends", **ITEM))["items"]

    windows = {window["days"]: window["demand"] for window in velocity["windows"]}
    assert windows[90] == 7
    assert trend["direction"] in {"UP", "DOWN", "FLAT"}


async def test_7_the_lake_holds_its_events(stack: Stack, journey: Journey) -> None:
    table = DeltaTable(f"{stack.env['LAKE_URL']}/inventory-events").to_pyarrow_table()
    events = pl.DataFrame(pl.from_arrow(table)).unique("eventId")

    ours = events.filter(pl.col("transactionId") == journey.sale["transactionId"])
    assert sorted(ours["eventType"]) == ["INVENTORY_UPDATE", "TRANSACTION"]


async def test_8_the_history_holds_the_document(stockflow: Stockflow, journey: Journey) -> None:
    [document] = (await stockflow.get("analytics", "transactions", referenceId="ORDER-1"))["items"]

    assert document["transactionId"] == journey.sale["transactionId"]
    assert [line["quantityChange"] for line in document["lines"]] == [-7]


async def test_9_the_reorder_service_recommends(stockflow: Stockflow, journey: Journey) -> None:
    [recommendation] = (await stockflow.get("reorder", "recommendations", **ITEM, status="open"))["items"]

    assert (recommendation["inventoryPosition"], recommendation["recommendedQuantity"]) == (3, 17)


async def test_the_stores_agree_after_all_tests_so_far(stockflow: Stockflow, journey: Journey) -> None:
    reconciliation = await stockflow.get("pipeline", "reconciliation")

    assert reconciliation["differences"] == []
    assert reconciliation["exact"]
