"""The stream and the lake over very many events: memory and cost per event, step by step (P8, memory of P1).

`python -m benchmarks.long_run --events 10000000` fills the topic in steps and lets `python -m services.pipeline stream`
and `archive` apply each; at the end every event must be counted once, in the facts and in the lake. With several
`--items`, one run each with as many `--events`, it compares the cost of the last with that of the first. Prints one
JSON object per step and writes them to `benchmarks/results/long_run.json`. The first step has the start of the
processes in it: growth is that of the last step from the second on.
"""

import argparse
import asyncio
import json
import sys
import time
from datetime import date
from itertools import islice
from statistics import median
from typing import Any

import asyncpg

from benchmarks import report
from benchmarks.machine import cpu_seconds, machine, memory_bytes, peak_memory_bytes
from benchmarks.streaming_cpu import applied_by, fill, pipeline_environment, sales
from benchmarks.streaming_peers import Stand, running, stand
from libs.events.topics import INVENTORY_EVENTS
from services.pipeline.lake import LakeTable
from tests.stack import Database

LOOK_SECONDS = 0.1
MOST_MEMORY_MB = 200.0
FLAT = 1.15
"""What is called flat: growth of at most 15 %."""
Step = dict[str, Any]

_COUNTED_ONCE = """
    SELECT (SELECT sum(entries) FROM daily_movement) = $1 AND (SELECT sum(entries) FROM hourly_movement) = $1
       AND (SELECT sum(last_sequence) FROM stock_position) = $1 AND NOT EXISTS (SELECT FROM sequence_gap)
"""


async def measure(events: int, step: int, items: int) -> list[Step]:
    """What each step cost, on servers of its own."""
    async with stand([], 0, 0) as ready:
        database = Database(ready.servers, ready.template)
        connection = await asyncpg.connect(database.superuser_url, server_settings={"search_path": "pipeline"})
        try:
            results = await _steps(ready, database, connection, events, step, items)
            assert await connection.fetchval(_COUNTED_ONCE, events), "not every event is counted once"
            assert await _in_lake(ready) == await _in_facts(connection), "the lake does not hold what the facts do"
        finally:
            await connection.close()
    return results


async def _steps(
    ready: Stand, database: Database, connection: asyncpg.Connection, events: int, step: int, items: int
) -> list[Step]:
    results: list[Step] = []
    messages = sales(events, items)
    environment = pipeline_environment(database, ready.kafka, ready.folder) | {"ARCHIVE_FLUSH_SECONDS": "5"}
    argv = [sys.executable, "-m", "services.pipeline"]
    async with running([*argv, "stream"], environment) as stream, running([*argv, "archive"], environment) as archive:
        for end in range(step, events + 1, step):
            began, cpu, archive_cpu = time.perf_counter(), cpu_seconds(stream), cpu_seconds(archive)
            await fill(ready.kafka, islice(messages, step))
            while min([await applied_by(connection, process) for process in ("stream", "archive")]) < end:
                await asyncio.sleep(LOOK_SECONDS)
            results.append(
                {
                    "events": end,
                    "stockItems": items,
                    "cpuMicrosecondsPerEvent": round((cpu_seconds(stream) - cpu) / step * 1e6, 1),
                    "wallSeconds": round(time.perf_counter() - began, 1),
                    "memoryMiB": round(memory_bytes(stream) / 2**20),
                    "peakMemoryMiB": round(peak_memory_bytes(stream) / 2**20),
                    "archiveCpuMicrosecondsPerEvent": round((cpu_seconds(archive) - archive_cpu) / step * 1e6, 1),
                    "archiveMemoryMiB": round(memory_bytes(archive) / 2**20),
                    "archivePeakMemoryMiB": round(peak_memory_bytes(archive) / 2**20),
                    "broker": ready.broker,
                }
            )
            print(json.dumps(results[-1]), flush=True)
    return results


def promises(run: list[Step]) -> list[report.Promise]:
    """What a run shows of growth and memory."""
    early, late = run[min(1, len(run) - 1)], run[-1]
    at = f"at {late['events']:,} events of {late['stockItems']:,} stock items"
    since = f"times that at {early['events']:,} events"

    def growth(identity: str, what: str, column: str) -> report.Promise:
        ratio = round(late[column] / early[column], 2)
        return report.Promise(identity, f"{what} {at}", ratio, FLAT, since, at_most=True)

    peak = round(late["peakMemoryMiB"] * 2**20 / 1e6)
    return [
        report.Promise("P1", f"peak memory of the stream {at}", peak, MOST_MEMORY_MB, "MB", at_most=True),
        growth("P1", "memory of the stream", "memoryMiB"),
        growth("P8", "CPU time per event of the stream", "cpuMicrosecondsPerEvent"),
        growth("P8", "CPU time per event of the archive", "archiveCpuMicrosecondsPerEvent"),
    ]


def beside_fewer_items(fewer: list[Step], more: list[Step]) -> list[report.Promise]:
    """The cost per event of a run of more stock items, as a multiple of that of fewer."""
    what = f"{more[0]['stockItems']:,} stock items"
    unit = f"times that with {fewer[0]['stockItems']:,}"
    return [
        report.Promise(
            "P8", f"CPU time per event of the {process} with {what}", round(ratio, 2), FLAT, unit, at_most=True
        )
        for process, column in (("stream", "cpuMicrosecondsPerEvent"), ("archive", "archiveCpuMicrosecondsPerEvent"))
        for ratio in [_usual(more, column) / _usual(fewer, column)]
    ]


def _usual(run: list[Step], column: str) -> float:
    return median(float(step[column]) for step in run[min(1, len(run) - 1) :])


async def _in_facts(connection: asyncpg.Connection) -> dict[date, int]:
    rows = await connection.fetch("SELECT date, sum(entries)::bigint FROM daily_movement GROUP BY date")
    return {row[0]: row[1] for row in rows}


async def _in_lake(ready: Stand) -> dict[date, int]:
    table = LakeTable(str(ready.folder / "lake"), INVENTORY_EVENTS)
    return await asyncio.to_thread(table.count_entries, date.min, date.max)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_run", description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[10_000_000])
    parser.add_argument("--step", type=int, default=1_000_000, help="events between two measurements")
    parser.add_argument("--items", type=int, nargs="+", default=[1_000], help="stock items")
    arguments = parser.parse_args()
    if any(events % arguments.step for events in arguments.events):
        parser.error("--events must be multiples of --step")
    if len(arguments.events) != len(arguments.items):
        parser.error("as many --events as --items, please")
    runs = [
        asyncio.run(measure(events, arguments.step, items))
        for events, items in zip(arguments.events, arguments.items, strict=True)
    ]
    found = [promise for run in runs for promise in promises(run)]
    if len(runs) > 1:
        found += beside_fewer_items(runs[0], runs[-1])
    report.write("long_run", f"{machine()}, {runs[0][0]['broker']}", [step for run in runs for step in run], found)


if __name__ == "__main__":
    main()
