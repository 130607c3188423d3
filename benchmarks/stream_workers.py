"""How the stream scales out: one, two and three workers on twelve partitions, and what each of them does.

`python -m benchmarks.stream_workers` fills a topic, starts the workers together and waits until all is applied. The
workers share the machine with Postgres and the broker, so the cores bound the sum. Prints one JSON object per line.
"""

import argparse
import asyncio
import json
import sys
import time

import asyncpg
import psutil

from benchmarks.machine import cpu_seconds, machine, peak_memory_bytes
from benchmarks.streaming_cpu import applied_by, full_topic
from tests.stack import Database


async def measure(workers: int, events: int, items: int) -> dict[str, object]:
    """Events per second of all workers from the first write to the last, and CPU and memory of each."""
    async with full_topic(events, items) as (database, environment):
        started = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.pipeline", "stream"),
                env={**environment, "LOG_LEVEL": "error", "KAFKA_GROUP_INSTANCE_ID": f"worker-{number}"},
            )
            for number in range(workers)
        ]
        try:
            processes = [psutil.Process(worker.pid) for worker in started]
            return {"workers": workers, "events": events, **await _watch(database, processes, events)}
        finally:
            for worker in started:
                worker.terminate()
            await asyncio.gather(*(worker.wait() for worker in started))


async def _watch(database: Database, processes: list[psutil.Process], events: int) -> dict[str, object]:
    connection = await asyncpg.connect(database.url("pipeline"))
    try:
        while (before := await applied_by(connection, "stream")) == 0:
            await asyncio.sleep(0.02)
        since = time.monotonic()
        while await applied_by(connection, "stream") < events:
            await asyncio.sleep(0.02)
        seconds = time.monotonic() - since
    finally:
        await connection.close()
    rate = (events - before) / seconds
    return {
        "events_per_second": round(rate),
        "events_per_second_and_worker": round(rate / len(processes)),
        "cpu_seconds": [round(cpu_seconds(process), 1) for process in processes],
        "peak_memory_mb": [round(peak_memory_bytes(process) / 2**20) for process in processes],
        "machine": machine(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream_workers", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--items", type=int, default=1_000, help="stock items")
    arguments = parser.parse_args()
    for workers in arguments.workers:
        print(json.dumps(asyncio.run(measure(workers, arguments.events, arguments.items))), flush=True)


if __name__ == "__main__":
    main()
