"""All sinks of one topic at the same time, each its own process: Postgres, Redis, the lake and MongoDB (P2).

`python -m benchmarks.sinks` writes medians of its rounds to `benchmarks/results/sinks.json`. A sink's speed is from the
first result of any sink to its own last one, seen in its own store. Its processor time per event is that from its own
first result on, as FastStream's, whose batches are written to Postgres alone in the same round. Two ratios compare the
two: that of the process that does FastStream's job, and that of all three processes whose sinks are Stockflow's own
together (MongoDB's driver and server are others'). Redis and the lake are written once a second, not every 5 and 60 s
as by default, so that the end of a run does not wait for them.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import asyncpg
import psutil
import redis.asyncio as redis
from pymongo import AsyncMongoClient

from benchmarks import report
from benchmarks.machine import cpu_seconds, machine, peak_memory_bytes
from benchmarks.streaming_cpu import applied_by, pipeline_environment, sales
from benchmarks.streaming_peers import PEERS, Run, Stand, running, stand
from tests.stack import Database

OURS = ("Postgres", "Redis", "lake")
PROCESSES: Mapping[str, Sequence[str]] = {
    "Postgres": ["-m", "services.pipeline", "stream"],
    "Redis": ["-m", "services.pipeline", "metrics"],
    "lake": ["-m", "services.pipeline", "archive"],
    "MongoDB": ["-m", "services.analytics", "consume"],
}
PEER = "FastStream, batches"
PROMISED_EVENTS_PER_SECOND = 50_000
PROMISED_CPU_RATIO = 3.0
LOOK_SECONDS = 0.2
PATIENCE_SECONDS = 600.0

Applied = Callable[[], Awaitable[int]]
"""How many events a sink holds."""


@dataclass(frozen=True, slots=True)
class Sink:
    """What a sink did: when it showed its first events and how many, and when all."""

    began_at: float
    first: int
    ended_at: float
    cpu_microseconds_per_event: float
    peak_memory_bytes: int


async def measure(events: int, items: int, rounds: int, seconds: float) -> None:
    """Rounds of all four sinks and of FastStream in turns, into the results."""
    sinks: dict[str, list[Run]] = {name: [] for name in PROCESSES}
    peers: list[Run] = []
    async with stand(sales(events, items), events, seconds) as ready:
        for number in range(rounds):
            for name, run in (await _all_sinks(ready, number)).items():
                sinks[name].append(run)
            peers.append(await ready.peer(PEERS[PEER]))
        where = f"{machine()}, {ready.broker}, {events:,} events, {items:,} stock items, {rounds} rounds"
    figures = [_figures(name, runs) for name, runs in {**sinks, PEER: peers}.items()]
    for one in figures:
        print(json.dumps(one))
    report.write("sinks", where, figures, _promises(sinks, peers))


async def _all_sinks(ready: Stand, number: int) -> dict[str, Run]:
    """One round, in stores of its own."""
    database = Database(ready.servers, f"sinks_{number}")
    await ready.servers.create_database(database.name, template=ready.template)
    stores = {
        "REDIS_URL": ready.servers.redis_url(number),
        "MONGO_URL": ready.servers.mongo_url(database.name),
        "LAKE_URL": str(ready.folder / database.name),
    }
    timing = {"METRICS_INTERVAL_SECONDS": "1", "ARCHIVE_FLUSH_SECONDS": "1"}
    environment = pipeline_environment(database, ready.kafka, ready.folder) | stores | timing
    async with AsyncExitStack() as stack:
        positions, archive = [
            await asyncpg.connect(database.superuser_url, server_settings={"search_path": "pipeline"}) for _ in range(2)
        ]
        stack.push_async_callback(positions.close)
        stack.push_async_callback(archive.close)
        cache = await stack.enter_async_context(redis.from_url(stores["REDIS_URL"]))
        mongo: AsyncMongoClient[Any] = await stack.enter_async_context(AsyncMongoClient(stores["MONGO_URL"]))
        applied: dict[str, Applied] = {
            "Postgres": lambda: applied_by(positions, "stream"),
            "Redis": lambda: _in_redis(cache),
            "lake": lambda: applied_by(archive, "archive"),
            "MongoDB": lambda: _in_mongo(mongo),
        }
        workers = {
            name: await stack.enter_async_context(running([sys.executable, *argv], environment))
            for name, argv in PROCESSES.items()
        }
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
            watches = {
                name: tasks.create_task(_watch(workers[name], applied[name], ready.events)) for name in PROCESSES
            }
    return _runs({name: watch.result() for name, watch in watches.items()}, ready.events)


async def _watch(worker: psutil.Process, applied: Applied, events: int) -> Sink:
    """Look until a sink holds all events."""
    while not (first := await applied()):
        assert worker.is_running(), "a process ended; its output is above"
        await asyncio.sleep(LOOK_SECONDS)
    began_at, cpu = time.perf_counter(), cpu_seconds(worker)
    if first >= events:  # Everything came at once: then the start of the process counts, too.
        first, cpu = 0, 0.0
    while await applied() < events:
        await asyncio.sleep(LOOK_SECONDS)
    used = cpu_seconds(worker) - cpu
    return Sink(began_at, first, time.perf_counter(), used / (events - first) * 1e6, peak_memory_bytes(worker))


def _runs(sinks: Mapping[str, Sink], events: int) -> dict[str, Run]:
    start = min(sink.began_at for sink in sinks.values())
    return {
        name: Run(
            (events - (sink.first if sink.began_at == start else 0)) / (sink.ended_at - start),
            sink.cpu_microseconds_per_event,
            sink.peak_memory_bytes,
        )
        for name, sink in sinks.items()
    }


async def _in_redis(cache: Any) -> int:
    """The revision of a level in Redis is its sequence, because these events hold nothing but ledger entries."""
    applied = 0
    for key in await cache.keys("stock:levels:*"):
        applied += sum(json.loads(level)["revision"] for level in await cache.hvals(key))
    return applied


async def _in_mongo(mongo: "AsyncMongoClient[Any]") -> int:
    found = mongo.get_default_database()["consumer_offsets"].find({}, {"nextOffset": 1})
    return sum([document.get("nextOffset") or 0 async for document in found])


def _figures(name: str, runs: Sequence[Run]) -> dict[str, object]:
    return {
        "sink": name,
        "eventsPerSecond": round(median(run.events_per_second for run in runs)),
        "cpuMicrosecondsPerEvent": round(_cpu(runs), 1),
        "peakMemoryMiB": round(max(run.peak_memory_bytes for run in runs) / 2**20),
    }


def _promises(sinks: Mapping[str, Sequence[Run]], peers: Sequence[Run]) -> list[report.Promise]:
    speeds = {name: median(run.events_per_second for run in sinks[name]) for name in OURS}
    slowest = min(speeds, key=speeds.__getitem__)
    together = sum(_cpu(sinks[name]) for name in OURS)
    unit = "times less CPU time per event than the peer"
    return [
        report.Promise(
            "P2",
            f"slowest sink of {', '.join(OURS)}: {slowest}",
            round(speeds[slowest]),
            PROMISED_EVENTS_PER_SECOND,
            "events/s",
        ),
        report.Promise(
            "P2",
            "the process that writes to Postgres",
            _less(peers, _cpu(sinks["Postgres"])),
            PROMISED_CPU_RATIO,
            unit,
            PEER,
        ),
        report.Promise(
            "P2", f"the processes of {', '.join(OURS)} together", _less(peers, together), PROMISED_CPU_RATIO, unit, PEER
        ),
    ]


def _less(peers: Sequence[Run], ours: float) -> float:
    return round(_cpu(peers) / ours, 2)


def _cpu(runs: Sequence[Run]) -> float:
    return median(run.cpu_microseconds_per_event for run in runs)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sinks", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--items", type=int, default=1_000, help="stock items")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15, help="most time of FastStream in a round")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.events, arguments.items, arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
