"""The stream and the lake over very many events: memory and cost per event, step by step.

`python -m benchmarks.long_run --events 10000000` fills the topic in steps and lets `python -m services.pipeline stream`
and `archive` apply each; at the end every event must be counted once, in the facts and in the lake. Prints one JSON
object per step and writes them to `benchmarks/results/long_run-ITEMS.json`.
"""

import argparse
import asyncio
import json
import sys
import time
from datetime import date
from itertools import islice
from pathlib import Path

import asyncpg

from benchmarks.machine import cpu_seconds, machine, memory_bytes, peak_memory_bytes
from benchmarks.streaming_cpu import applied_by, fill, pipeline_environment, sales
from benchmarks.streaming_peers import Stand, running, stand
from libs.events.topics import INVENTORY_EVENTS
from services.pipeline.lake import LakeTable
from tests.stack import Database

RESULTS = Path(__file__).parent / "results"
LOOK_SECONDS = 0.1
_COUNTED_ONCE = """
    SELECT (SELECT sum(entries) FROM daily_movement) = $1 AND (SELECT sum(entries) FROM hourly_movement) = $1
       AND (SELECT sum(last_sequence) FROM stock_position) = $1 AND NOT EXISTS (SELECT FROM sequence_gap)
"""


async def measure(events: int, step: int, items: int) -> list[dict[str, object]]:
    """What each step cost."""
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
) -> list[dict[str, object]]:
    results: list[dict[str, object]] = []
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
                    "machine": f"{machine()}, {ready.broker}",
                }
            )
            print(json.dumps(results[-1]), flush=True)
    return results


async def _in_facts(connection: asyncpg.Connection) -> dict[date, int]:
    rows = await connection.fetch("SELECT date, sum(entries)::bigint FROM daily_movement GROUP BY date")
    return {row[0]: row[1] for row in rows}


async def _in_lake(ready: Stand) -> dict[date, int]:
    table = LakeTable(str(ready.folder / "lake"), INVENTORY_EVENTS)
    return await asyncio.to_thread(table.count_entries, date.min, date.max)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_run", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--step", type=int, default=1_000_000, help="events between two measurements")
    parser.add_argument("--items", type=int, default=1_000, help="stock items")
    arguments = parser.parse_args()
    if arguments.events % arguments.step:
        parser.error("--events must be a multiple of --step")
    results = asyncio.run(measure(arguments.events, arguments.step, arguments.items))
    (RESULTS / f"long_run-{arguments.items}.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
