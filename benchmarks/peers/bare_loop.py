"""Nothing but aiokafka's `getmany`: what no aiokafka program can exceed. Prints events per second.

They count from the first 10,000 records on, as those of the other programs count from their first write on. By the
documentation of aiokafka, "Consumer client" (`getmany`).
"""

import asyncio
import json
import sys
import time

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.peers.sums import BATCH, KAFKA, TOPIC


async def main(events: int, partitions: int) -> None:
    """Read the whole topic once."""
    consumer = AIOKafkaConsumer(bootstrap_servers=KAFKA, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(TOPIC, number) for number in range(partitions)])
    first = await read(consumer, BATCH)
    began, cpu = time.perf_counter(), time.process_time()
    counted = await read(consumer, events - first)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    await consumer.stop()
    print(json.dumps({"eventsPerSecond": counted / seconds, "cpuMicrosecondsPerEvent": cpu / counted * 1e6}))


async def read(consumer: AIOKafkaConsumer, events: int) -> int:
    """Read at least so many records; how many it were."""
    found = 0
    while found < events:
        found += sum(map(len, (await consumer.getmany(timeout_ms=200, max_records=1_000)).values()))
    return found


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
