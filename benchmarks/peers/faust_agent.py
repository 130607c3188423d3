"""Faust (faust-streaming) with an agent that takes batches of records.

By its documentation, "Streams: take(n, within) - buffer up n values" and "Models, Serialization, and Codecs".
"""

import sys
from datetime import date
from decimal import Decimal

import asyncpg
import faust

from benchmarks.peers.sums import ADD_DAILY, DATABASE_URL, GROUP, KAFKA, TOPIC, WRITE_POSITIONS, Sums

TAKEN = 4_000
"""`take` cannot be given more than a stream buffers (4,096)."""

app = faust.App(GROUP, broker=f"kafka://{KAFKA}", store="memory://", web_enabled=False, topic_disable_leader=True)
pools: list[asyncpg.Pool] = []


class InventoryUpdate(faust.Record, serializer="json"):  # type: ignore[call-arg]
    """The fields that the job needs, and the event's id."""

    eventId: str  # noqa: N815 - named as on the wire
    sku: str
    warehouseId: str  # noqa: N815
    sequence: int
    quantityChange: int  # noqa: N815
    quantityOnHand: int  # noqa: N815
    timestamp: str
    transactionType: str  # noqa: N815
    unitPrice: str  # noqa: N815


@app.agent(app.topic(TOPIC, key_type=bytes, value_type=InventoryUpdate))
async def handle(stream: faust.Stream[InventoryUpdate]) -> None:
    """Add batches up and write each in one transaction."""
    pools.append(await asyncpg.create_pool(DATABASE_URL, min_size=1, max_size=2))
    async for events in stream.take(TAKEN, within=0.2):
        sums = Sums()
        for event in events:
            sums.add(
                event.sku,
                event.warehouseId,
                event.sequence,
                event.quantityOnHand,
                date.fromisoformat(event.timestamp[:10]),
                event.transactionType,
                event.quantityChange,
                Decimal(event.unitPrice),
            )
        async with pools[0].acquire() as connection, connection.transaction():
            await connection.execute(WRITE_POSITIONS, *sums.positions())
            await connection.execute(ADD_DAILY, *sums.daily())


sys.argv[1:] = ["worker", "--loglevel", "error", "--without-web"]
app.main()
