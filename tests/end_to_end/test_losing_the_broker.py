"""Kafka may be lost whole: the ledger is the truth, and everything is published again."""

import asyncio

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.stack import Stack
from libs.events.topics import TOPICS
from tests.end_to_end.quiet import Quiet
from tests.end_to_end.stock import a_document, a_line, create_stock_item
from tools.demo.catching_up import catch_up
from tools.demo.stockflow import Stockflow

SALES = 60


@pytest.mark.slow
async def test_a_broker_that_lost_all_topics_under_load_is_filled_again(
    stack: Stack, stockflow: Stockflow, inventory: httpx.AsyncClient
) -> None:
    await create_stock_item(inventory, "LOST-1", "DOCK-1", SALES)

    async def sell() -> None:
        for _ in range(SALES):
            response = await inventory.post("transactions", json=a_document("SALE", a_line("LOST-1", "DOCK-1", -1)))
            assert response.status_code == 201, response.text
            await asyncio.sleep(0.02)

    selling = asyncio.create_task(sell())
    await _delete_all_topics(stack.env["KAFKA_BOOTSTRAP_SERVERS"])
    await stack.kill("kafka")
    await selling
    async with asyncio.timeout(240):
        while stack.restarts["kafka"] == 0 or not stack.is_ready:
            await asyncio.sleep(0.1)
    await catch_up(stockflow, Quiet())

    reconciliation = await stockflow.get("pipeline", "reconciliation")
    movements = await stockflow.get("pipeline", "daily-movements", sku="LOST-1", transactionType="SALE")
    assert reconciliation["differences"] == []
    assert reconciliation["exact"]
    assert sum(day["unitsOut"] for day in movements["items"]) == SALES


async def _delete_all_topics(bootstrap_servers: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([topic.name for topic in TOPICS])
    finally:
        await admin.close()
