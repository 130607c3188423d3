"""Nothing but aiokafka's `getmany`: what no aiokafka program can exceed. Prints events per second.

By the documentation of aiokafka, "Consumer client" (`getmany`).
"""

import asyncio
import json
import sys
import time

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.peers.sums import KAFKA, TOPIC


async def main(events: int, partitions: int) -> None:
    """Read the whole topic once."""
    consumer = AIOKafkaConsumer(bootstrap_servers=KAFKA, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(TOPIC, number) for number in range(partitions)])
    read, began, cpu = 0, time.perf_counter(), time.process_time()
    while read < events:
        read += sum(map(len, (await consumer.getmany(timeout_ms=200, max_records=1_000)).values()))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    await consumer.stop()
    print(json.dumps({"eventsPerSecond": read / seconds, "cpuMicrosecondsPerEvent": cpu / read * 1e6}))


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
