"""All sinks of one topic at the same time, each its own process: Postgres, Redis, the lake and MongoDB (P2).

`python -m benchmarks.sinks` prints one JSON object and writes it to `benchmarks/results/sinks.json`. A sink's speed is
from the first result of any to its own last one; Redis is done when no stock item waits for its metrics any more. The
processor time is compared with that of FastStream's batches, which write to Postgres alone, in the same run.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
from pymongo import AsyncMongoClient

from benchmarks.machine import cpu_seconds, machine, peak_memory_bytes
from benchmarks.streaming_cpu import applied_by, pipeline_environment, sales
from benchmarks.streaming_peers import PEERS, Stand, running, stand
from tests.stack import Database

RESULTS = Path(__file__).parent / "results/sinks.json"
OURS = ("Postgres", "Redis", "lake")
PROCESSES: Mapping[str, Sequence[str]] = {
    "Postgres": ["-m", "services.pipeline", "stream"],
    "Redis": ["-m", "services.pipeline", "metrics"],
    "lake": ["-m", "services.pipeline", "archive"],
    "MongoDB": ["-m", "services.analytics", "consume"],
}
PROMISED_EVENTS_PER_SECOND = 50_000
PROMISED_CPU_RATIO = 3.0
LOOK_SECONDS = 0.1

Applied = Callable[[], Awaitable[int]]
"""How many events a sink holds."""


async def measure(events: int, items: int, seconds: float) -> dict[str, object]:
    """One run of all four, then one of FastStream."""
    async with stand(sales(events, items), events, seconds) as ready:
        sinks = await _all_sinks(ready, events)
        peer = await ready.peer(PEERS["FastStream, batches"])
        where = f"{machine()}, {ready.broker}, {events:,} events, {items:,} stock items"
    slowest = min(sinks[name]["eventsPerSecond"] for name in OURS)
    ratio = peer.cpu_microseconds_per_event / sinks["Postgres"]["cpuMicrosecondsPerEvent"]
    return {
        "id": "P2",
        "sinks": sinks,
        "slowestOfOurs": slowest,
        "promisedEventsPerSecond": PROMISED_EVENTS_PER_SECOND,
        "fastStreamCpuMicrosecondsPerEvent": round(peer.cpu_microseconds_per_event, 1),
        "cpuRatio": round(ratio, 2),
        "promisedCpuRatio": PROMISED_CPU_RATIO,
        "holds": slowest >= PROMISED_EVENTS_PER_SECOND and ratio >= PROMISED_CPU_RATIO,
        "machine": where,
    }


async def _all_sinks(ready: Stand, events: int) -> dict[str, dict[str, float]]:
    database = Database(ready.servers, "sinks")
    await ready.servers.create_database(database.name, template=ready.template)
    environment = pipeline_environment(database, ready.kafka, ready.folder) | {
        "METRICS_INTERVAL_SECONDS": "0",
        "ARCHIVE_FLUSH_SECONDS": "1",
    }
    async with AsyncExitStack() as stack:
        connection = await asyncpg.connect(database.superuser_url, server_settings={"search_path": "pipeline"})
        stack.push_async_callback(connection.close)
        mongo: AsyncMongoClient[Any] = await stack.enter_async_context(AsyncMongoClient(ready.servers.mongo_url()))
        applied: dict[str, Applied] = {
            "Postgres": lambda: applied_by(connection, "stream"),
            "Redis": lambda: _calculated(connection, events),
            "lake": lambda: applied_by(connection, "archive"),
            "MongoDB": lambda: _checkpoints(mongo),
        }
        workers = {
            name: await stack.enter_async_context(running([sys.executable, *argv], environment))
            for name, argv in PROCESSES.items()
        }
        while not await applied["Postgres"]() and not await applied["lake"]():
            await asyncio.sleep(LOOK_SECONDS)
        began = time.perf_counter()
        done: dict[str, dict[str, float]] = {}
        while len(done) < len(workers):
            for name in workers.keys() - done.keys():
                if await applied[name]() >= events:
                    done[name] = {
                        "eventsPerSecond": round(events / (time.perf_counter() - began)),
                        "cpuMicrosecondsPerEvent": round(cpu_seconds(workers[name]) / events * 1e6, 1),
                        "peakMemoryMiB": round(peak_memory_bytes(workers[name]) / 2**20),
                    }
            await asyncio.sleep(LOOK_SECONDS)
    return {name: done[name] for name in PROCESSES}


async def _calculated(connection: asyncpg.Connection, events: int) -> int:
    """All events once the stream has applied them and no stock item is marked, nothing before."""
    waits = await connection.fetchval("SELECT EXISTS (SELECT FROM dirty_stock_item)")
    return 0 if waits or await applied_by(connection, "stream") < events else events


async def _checkpoints(mongo: "AsyncMongoClient[Any]") -> int:
    found = mongo["analytics"]["consumer_offsets"].find({}, {"nextOffset": 1})
    return sum([document.get("nextOffset") or 0 async for document in found])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sinks", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--items", type=int, default=1_000, help="stock items")
    parser.add_argument("--seconds", type=float, default=15, help="most time of FastStream")
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments.events, arguments.items, arguments.seconds))
    print(json.dumps(result))
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
