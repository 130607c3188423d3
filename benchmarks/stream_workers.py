"""How the stream scales out: one, two and three workers on twelve partitions, and what each of them does.

`python -m benchmarks.stream_workers` fills a topic, starts the workers together and waits until all is applied. What
counts is from when every worker has applied something. The workers share the machine with Postgres and the broker, so
the cores bound the sum. Medians of interleaved rounds are in `benchmarks/results/stream_workers.json`.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median

import asyncpg
import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import report
from benchmarks.machine import cpu_seconds, machine, peak_memory_bytes
from benchmarks.streaming_cpu import applied_by, pipeline_environment, sales
from benchmarks.streaming_peers import Run, Stand, running, stand
from deploy.local.ports import LOOPBACK, free_ports
from tests.stack import Database

LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A process of the stream, and where it tells its counters."""

    process: psutil.Process
    port: int

    async def applied(self, http: httpx.AsyncClient) -> int:
        """Records whose result this worker has written; 0 before it answers."""
        try:
            answer = await http.get(f"http://{LOOPBACK}:{self.port}/metrics")
        except httpx.ConnectError:
            return 0
        families = text_string_to_metric_families(answer.text)
        samples = [sample for family in families for sample in family.samples]
        return int(sum(sample.value for sample in samples if sample.name == "stockflow_consumer_applied_total"))


async def measure(counts: Sequence[int], events: int, items: int, rounds: int) -> None:
    """Rounds of each number of workers in turns, into the results."""
    found: dict[int, list[list[Run]]] = {workers: [] for workers in counts}
    async with stand(sales(events, items), events, 0) as ready:
        for _ in range(rounds):
            for workers, runs in found.items():
                runs.append(await _run(ready, workers))
        where = f"{machine()}, {ready.broker}, {events:,} events, {items:,} stock items, {rounds} rounds"
    figures = [_figures(workers, runs) for workers, runs in found.items()]
    for one in figures:
        print(json.dumps(one))
    report.write("stream_workers", where, figures)


async def _run(ready: Stand, workers: int) -> list[Run]:
    """One round with so many workers: what each of them did, the fastest first."""
    database = Database(ready.servers, f"workers_{next(ready.numbers)}")
    await ready.servers.create_database(database.name, template=ready.template)
    environment = pipeline_environment(database, ready.kafka, ready.folder)
    async with AsyncExitStack() as stack:
        connection = await asyncpg.connect(database.superuser_url, server_settings={"search_path": "pipeline"})
        stack.push_async_callback(connection.close)
        http = await stack.enter_async_context(httpx.AsyncClient())
        started = [
            Worker(
                await stack.enter_async_context(
                    running(
                        [sys.executable, "-m", "services.pipeline", "stream"], environment | {"OPS_PORT": str(port)}
                    )
                ),
                port,
            )
            for port in free_ports(workers)
        ]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while 0 in (first := [await worker.applied(http) for worker in started]):
                assert all(worker.process.is_running() for worker in started), "a worker ended; its output is above"
                await asyncio.sleep(LOOK_SECONDS)
            began, cpu = time.perf_counter(), [cpu_seconds(worker.process) for worker in started]
            while await applied_by(connection, "stream") < ready.events:
                await asyncio.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - began
        runs = []
        for worker, before, used in zip(started, first, cpu, strict=True):
            counted = await worker.applied(http) - before
            assert counted > 0, f"a worker applied all its {before:,} events at once: too few to measure"
            spent = (cpu_seconds(worker.process) - used) / counted * 1e6
            runs.append(Run(counted / seconds, spent, peak_memory_bytes(worker.process)))
    await ready.servers.drop_database(database.name)
    return sorted(runs, key=lambda run: -run.events_per_second)


def _figures(workers: int, rounds: Sequence[Sequence[Run]]) -> dict[str, object]:
    return {
        "workers": workers,
        "eventsPerSecond": round(median(sum(run.events_per_second for run in runs) for runs in rounds)),
        "eventsPerSecondOfEach": [
            round(median(run.events_per_second for run in rank)) for rank in zip(*rounds, strict=True)
        ],
        "cpuMicrosecondsPerEventOfEach": [
            round(median(run.cpu_microseconds_per_event for run in rank), 1) for rank in zip(*rounds, strict=True)
        ],
        "peakMemoryMiB": round(max(run.peak_memory_bytes for runs in rounds for run in runs) / 2**20),
    }


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream_workers", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--items", type=int, default=1_000, help="stock items")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.workers, arguments.events, arguments.items, arguments.rounds))


if __name__ == "__main__":
    main()
