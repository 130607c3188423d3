"""What MongoDB holds, for the reconciliation. The only file of the service that knows its driver."""

from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient

from services.pipeline.reconciliation import Holding, Tallies

TIMEOUT_MS = 120_000
DOCUMENTS_PER_FETCH = 500


async def read(url: str) -> Holding:
    """The lines of all posted transactions in the history that analytics keeps."""
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
        url, tz_aware=True, serverSelectionTimeoutMS=5_000, timeoutMS=TIMEOUT_MS
    )
    tallies = Tallies()
    wanted = {
        "transactionId": 1,
        "occurredAt": 1,
        "lines.lineNo": 1,
        "lines.warehouseId": 1,
        "lines.quantityChange": 1,
    }
    try:
        transactions = client.get_default_database("analytics")["transactions_v1"]
        async for document in transactions.find({}, wanted, batch_size=DOCUMENTS_PER_FETCH):
            day = document["occurredAt"].date()
            for line in document["lines"]:
                tally = tallies[line["warehouseId"], day]
                tally.count(document["transactionId"], line["lineNo"], line["quantityChange"])
    finally:
        client.close()
    return Holding(tallies=tallies)
