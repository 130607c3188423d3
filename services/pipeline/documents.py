"""What MongoDB holds of the history that analytics keeps. The only file of the service that knows its driver."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
from motor.motor_asyncio import AsyncIOMotorClient

from services.pipeline.reconciliation import Holding, Tallies

TIMEOUT_MS = 120_000
SELECTION_TIMEOUT_MS = 5_000
DOCUMENTS_PER_FETCH = 500
IDS_PER_QUERY = 2_000
WINDOW_DAYS = 30


async def read(url: str) -> Holding:
    """The lines of all posted transactions."""
    tallies = Tallies()
    wanted = {
        "transactionId": 1,
        "occurredAt": 1,
        "lines.lineNo": 1,
        "lines.warehouseId": 1,
        "lines.quantityChange": 1,
    }
    async with _view(url, "transactions_v1") as transactions:
        async for document in transactions.find({}, wanted, batch_size=DOCUMENTS_PER_FETCH):
            day = document["occurredAt"].date()
            for line in document["lines"]:
                tally = tallies[line["warehouseId"], day]
                tally.count(document["transactionId"], line["lineNo"], line["quantityChange"])
    return Holding(tallies=tallies)


async def count_lines(url: str, first: date, last: date) -> dict[date, int]:
    """UTC date -> lines of the transactions that happened on it, from first to last."""
    within = {
        "$gte": datetime.combine(first, time(), UTC),
        "$lt": datetime.combine(last, time(), UTC) + timedelta(days=1),
    }
    day = {"$dateToString": {"format": "%Y-%m-%d", "date": "$occurredAt"}}
    per_day = [{"$match": {"occurredAt": within}}, {"$group": {"_id": day, "lines": {"$sum": "$lineCount"}}}]
    async with _view(url, "transactions_v1") as transactions:
        return {date.fromisoformat(row["_id"]): row["lines"] async for row in transactions.aggregate(per_day)}


async def read_demand(url: str, as_of: date, items: pa.Table) -> pa.Table:
    """Demand of the 30 days up to a date as the stream has calculated it, of those items (sku, warehouse) that it has.

    Columns: sku, warehouse_id, demand_30. Metrics are found by their `_id`: metric|sku|warehouse|date, escaped.
    """
    skus: list[str] = []
    warehouses: list[str] = []
    demand: list[int] = []
    ids = ["|".join(map(_escaped, ("velocity", *item.values(), as_of.isoformat()))) for item in items.to_pylist()]
    async with _view(url, "metric_history_v1") as metrics:
        for start in range(0, len(ids), IDS_PER_QUERY):
            wanted = {"_id": {"$in": ids[start : start + IDS_PER_QUERY]}}
            async for document in metrics.find(wanted, {"sku": 1, "warehouseId": 1, "windows": 1}):
                skus.append(document["sku"])
                warehouses.append(document["warehouseId"])
                demand += [each["demand"] for each in document["windows"] if each["days"] == WINDOW_DAYS]
    columns = [pa.array(skus, pa.string()), pa.array(warehouses, pa.string()), pa.array(demand, pa.int64())]
    return pa.table(dict(zip(("sku", "warehouse_id", "demand_30"), columns, strict=True)))


def _escaped(part: str) -> str:
    return part.replace("%", "%25").replace("|", "%7C")


@asynccontextmanager
async def _view(url: str, name: str) -> AsyncIterator[Any]:
    """A view that analytics has published."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
        # timeoutMS would be waited for in vain when the server is away, whatever serverSelectionTimeoutMS says.
        url,
        tz_aware=True,
        serverSelectionTimeoutMS=SELECTION_TIMEOUT_MS,
        socketTimeoutMS=TIMEOUT_MS,
    )
    try:
        yield client.get_default_database("analytics")[name]
    finally:
        client.close()
