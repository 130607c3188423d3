"""The form of most tutorials: aiokafka, `async for`, two statements per event, offsets committed by themselves.

By the documentation of aiokafka, "Consumer client", and of asyncpg, "Transactions".
"""

import asyncio
import json

import asyncpg
from aiokafka import AIOKafkaConsumer

from benchmarks.peers.sums import ADD_DAILY, DATABASE_URL, GROUP, KAFKA, TOPIC, WRITE_POSITIONS, Sums


async def main() -> None:
    """Consume until killed."""
    connection = await asyncpg.connect(DATABASE_URL)
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=KAFKA, group_id=GROUP, auto_offset_reset="earliest")
    await consumer.start()
    async for message in consumer:
        sums = Sums()
        sums.add_json(json.loads(message.value))
        async with connection.transaction():
            await connection.execute(WRITE_POSITIONS, *sums.positions())
            await connection.execute(ADD_DAILY, *sums.daily())


asyncio.run(main())
