"""What MongoDB holds of the history that analytics keeps. The only file of the service that knows its driver."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient

from services.pipeline.reconciliation import Holding, Tallies

TIMEOUT_MS = 120_000
DOCUMENTS_PER_FETCH = 500


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
    async with _transactions(url) as transactions:
        async for document in transactions.find({}, wanted, batch_size=DOCUMENTS_PER_FETCH):
            day = document["occurredAt"].date()
            for line in document["lines"]:
                tally = tallies[line["warehouseId"], day]
                tally.count(document["transactionId"], line["lineNo"], line["quantityChange"])
    return Holding(tallies=tallies)


async def count_lines(url: str, first: date, last: date) -> Counter[date]:
    """UTC date -> lines of the transactions that happened on it, from first to last."""
    within = {
        "$gte": datetime.combine(first, time(), UTC),
        "$lt": datetime.combine(last, time(), UTC) + timedelta(days=1),
    }
    counts: Counter[date] = Counter()
    async with _transactions(url) as transactions:
        found = transactions.find(
            {"occurredAt": within}, {"occurredAt": 1, "lineCount": 1}, batch_size=DOCUMENTS_PER_FETCH
        )
        async for document in found:
            counts[document["occurredAt"].date()] += document["lineCount"]
    return counts


@asynccontextmanager
async def _transactions(url: str) -> AsyncIterator[Any]:
    """The published view of posted transactions."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
        url, tz_aware=True, serverSelectionTimeoutMS=5_000, timeoutMS=TIMEOUT_MS
    )
    try:
        yield client.get_default_database("analytics")["transactions_v1"]
    finally:
        client.close()
