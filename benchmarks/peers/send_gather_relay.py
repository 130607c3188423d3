"""A relay in its plainest form: read 500 rows per shard, `send` each, gather, delete. Runs in our environment.

By the documentation of aiokafka, "Producer client" (`send` returns a future that is awaited afterwards).
"""

import asyncio
import json

import asyncpg
from aiokafka import AIOKafkaProducer

from benchmarks.peers.sums import DATABASE_URL, KAFKA

ROWS_PER_SHARD = 500
_WAITING = """
    SELECT row.* FROM generate_series(0, 15) AS owned(shard)
     CROSS JOIN LATERAL (SELECT id, topic, key, value, headers
                           FROM outbox WHERE outbox.shard = owned.shard ORDER BY id LIMIT $1) AS row
     ORDER BY row.id
"""


async def main() -> None:
    """Send until killed."""
    connection = await asyncpg.connect(DATABASE_URL)
    producer = AIOKafkaProducer(
        bootstrap_servers=KAFKA, enable_idempotence=True, compression_type="zstd", linger_ms=10, max_batch_size=131_072
    )
    await producer.start()
    while True:
        rows = await connection.fetch(_WAITING, ROWS_PER_SHARD)
        sent = [
            await producer.send(
                row["topic"],
                row["value"],
                key=row["key"].encode(),
                headers=[(name, value.encode()) for name, value in json.loads(row["headers"]).items()],
            )
            for row in rows
        ]
        await asyncio.gather(*sent)
        await connection.execute("DELETE FROM outbox WHERE id = ANY($1::bigint[])", [row["id"] for row in rows])
        await asyncio.sleep(0 if rows else 0.2)


asyncio.run(main())
