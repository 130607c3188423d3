"""FastStream, `batch` or `single`: validated models, acknowledged after the handler.

By its documentation, "Kafka: Batch Subscriber" (`batch=True`, `max_records`), "Lifespan: hooks", and
"Acknowledgement" (`AckPolicy.NACK_ON_ERROR` is at least once).
"""

import asyncio
import sys

import asyncpg
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker

from benchmarks.peers.faststream_model import InventoryUpdate, add
from benchmarks.peers.sums import ADD_DAILY, BATCH, DATABASE_URL, GROUP, KAFKA, TOPIC, WRITE_POSITIONS, Sums

broker = KafkaBroker(KAFKA, logger=None)
app = FastStream(broker)
pools: list[asyncpg.Pool] = []


@app.on_startup
async def connect() -> None:
    """Open the pool before the first message."""
    pools.append(await asyncpg.create_pool(DATABASE_URL, min_size=1, max_size=2))


async def write(events: list[InventoryUpdate]) -> None:
    """Add the events up and write them in one transaction."""
    sums = Sums()
    for event in events:
        add(sums, event)
    async with pools[0].acquire() as connection, connection.transaction():
        await connection.execute(WRITE_POSITIONS, *sums.positions())
        await connection.execute(ADD_DAILY, *sums.daily())


if sys.argv[1] == "batch":

    @broker.subscriber(
        TOPIC,
        group_id=GROUP,
        auto_offset_reset="earliest",
        batch=True,
        max_records=BATCH,
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def handle_batch(events: list[InventoryUpdate]) -> None:
        """Count a batch."""
        await write(events)

else:

    @broker.subscriber(TOPIC, group_id=GROUP, auto_offset_reset="earliest", ack_policy=AckPolicy.NACK_ON_ERROR)
    async def handle(event: InventoryUpdate) -> None:
        """Count one event."""
        await write([event])


asyncio.run(app.run())
