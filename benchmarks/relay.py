"""The relay beside the plain form of one, `send` and gather, over the same rows of the same outbox (P6).

`python -m benchmarks.relay` writes `benchmarks/results/relay.json`.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from statistics import median

import asyncpg

from benchmarks import report
from benchmarks.machine import cpu_seconds, machine
from benchmarks.streaming_cpu import pipeline_environment, sales
from benchmarks.streaming_peers import Stand, running, stand
from libs.events.outbox import enqueue_messages
from tests.stack import ROOT, Database

PEER = "send and gather"
PROMISED = 2.0
PROGRAMS: Mapping[str, Sequence[str]] = {
    "Stockflow": ["-m", "services.pipeline", "relay"],
    PEER: ["-m", "benchmarks.peers.send_gather_relay"],
}


async def measure(rows: int, rounds: int) -> None:
    """Medians of interleaved rounds, into the results."""
    speeds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    costs: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    async with stand([], 0, 0) as ready:
        for _ in range(rounds):
            for name, argv in PROGRAMS.items():
                speed, cost = await drain(ready, argv, rows)
                speeds[name].append(speed)
                costs[name].append(cost)
        where = f"{machine()}, {ready.broker}, {rows:,} rows, {rounds} rounds"
    ours, peer = (median(speeds[name]) for name in PROGRAMS)
    figures = [
        {
            "program": name,
            "eventsPerSecond": round(median(speeds[name])),
            "cpuMicrosecondsPerEvent": round(median(costs[name]), 1),
        }
        for name in PROGRAMS
    ]
    what, unit = "relay, outbox to Kafka", "times the events/s of the peer"
    report.write("relay", where, figures, [report.Promise("P6", what, round(ours / peer, 2), PROMISED, unit, PEER)])


async def drain(
    ready: Stand,
    argv: Sequence[str],
    rows: int,
    watched: Callable[[int], AbstractAsyncContextManager[object]] = nullcontext,
) -> tuple[float, float]:
    """Events per second and CPU microseconds per event, from the first deletion to an empty outbox.

    `watched` is given the relay's pid.
    """
    database = Database(ready.servers, ready.template)
    connection = await asyncpg.connect(database.superuser_url, server_settings={"search_path": "pipeline"})
    try:
        messages = list(sales(rows, 1_000))
        for first in range(0, rows, 10_000):
            await enqueue_messages(connection, messages[first : first + 10_000])
        await connection.execute("VACUUM ANALYZE outbox")
        environment = pipeline_environment(database, ready.kafka, ready.folder) | {
            "BENCH_KAFKA": ready.kafka.bootstrap_servers,
            "BENCH_DATABASE_URL": f"{database.superuser_url}?options=-csearch_path%3Dpipeline",
        }
        async with running([sys.executable, *argv], environment, folder=ROOT) as worker, watched(worker.pid):
            while (waiting := await connection.fetchval("SELECT count(*) FROM outbox")) == rows:
                await asyncio.sleep(0.02)
            began, cpu, first_seen = time.perf_counter(), cpu_seconds(worker), waiting
            while await connection.fetchval("SELECT count(*) FROM outbox"):
                await asyncio.sleep(0.02)
            seconds, used = time.perf_counter() - began, cpu_seconds(worker) - cpu
        assert first_seen, f"{rows:,} rows were sent at once: too few to measure"
        return first_seen / seconds, used / first_seen * 1e6
    finally:
        await connection.close()


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relay", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.rows, arguments.rounds))


if __name__ == "__main__":
    main()
