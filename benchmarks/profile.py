"""Where the time goes: of a process, functions by samples of py-spy; of the batch transformation, DuckDB's operators.

`make bench` or `make .local/bench/profiler/stamp` makes the profiler's environment; then
`python -m benchmarks.profile stream` writes `benchmarks/profiles/stream.txt`, functions with their shares, and
`stream.stacks.txt`, the stacks themselves, which https://speedscope.app and flamegraph.pl draw. Imports are left out.
`python -m benchmarks.profile batch` writes `batch.txt`: the operators of our query and of the script beside it.
"""

import argparse
import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import ibis

from benchmarks import batch_transformation, relay, stock_reads, streaming_peers
from benchmarks.inventory_writes import CONNECTIONS, ITEMS, documents, stand
from benchmarks.streaming_cpu import measure
from services.pipeline.jobs.engine import ROWS_PER_GROUP
from tests.stack import ROOT

PY_SPY = ROOT / ".local/bench/profiler/bin/py-spy"
PROFILES = Path(__file__).parent / "profiles"
PROCESSES = ("stream", "archive", "relay", "inventory", "reads", "batch")
MOST = 30
LEAST_SECONDS, MOST_LETTERS = 0.05, 110
WARM_UP_SECONDS, SALES_SECONDS = 2.0, 10.0
TASKS = ("Runner.run (asyncio/runners.py", "_worker (concurrent/futures/thread.py")
"""The frames under which a process works: its event loop and its threads."""


@asynccontextmanager
async def sampled(pid: int, stacks: Path) -> AsyncIterator[None]:
    """Sample a process until the block ends."""
    arguments = ["record", "--pid", str(pid), "--format", "raw", "--rate", "200", "--function", "--output", str(stacks)]
    profiler = await asyncio.create_subprocess_exec(PY_SPY, *arguments, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        profiler.send_signal(2)  # It writes its file on SIGINT.
        await profiler.wait()


def work(lines: Iterable[str]) -> list[str]:
    """The stacks of the event loop's tasks and of threads, without what is imported there; equal ones together."""
    tally: Counter[str] = Counter()
    for line in lines:
        stack, _, number = line.rpartition(" ")
        for beginning in TASKS:
            _, found, task = stack.partition(beginning)
            if found and "<frozen importlib" not in task:
                tally[task.partition(");")[2] or "uvloop, callbacks in C"] += int(number)
    return [f"{stack} {number}" for stack, number in tally.most_common()]


def shares(lines: Iterable[str]) -> str:
    """Functions with the share of samples that they were in, and that they were on top of, the largest first."""
    inside: Counter[str] = Counter()
    on_top: Counter[str] = Counter()
    samples = 0
    for line in lines:
        stack, _, number = line.rpartition(" ")
        frames = stack.split(";")
        samples += int(number)
        on_top[frames[-1]] += int(number)
        inside.update(dict.fromkeys(frames, int(number)))
    rows = [f"{'itself':>8} {'with callees':>13}  function, of {samples} samples"]
    for frame, own in on_top.most_common(MOST):
        rows.append(f"{own / samples:8.1%} {inside[frame] / samples:13.1%}  {frame}")
    return "\n".join(rows) + "\n"


async def _sales(stacks: Path) -> None:
    """Sample the inventory API while it posts sales of one line."""
    async with stand() as api:
        await api.post("/transactions", documents(ITEMS, 1), CONNECTIONS, WARM_UP_SECONDS)
        async with sampled(api.pid, stacks):
            await api.post("/transactions", documents(ITEMS, 1), CONNECTIONS, SALES_SECONDS)


async def _reads(stacks: Path) -> None:
    """Sample the inventory API while single stock levels are read."""
    async with stand() as api:
        read = stock_reads.READS["one stock level"]
        for seconds, watched in ((WARM_UP_SECONDS, nullcontext()), (SALES_SECONDS, sampled(api.pid, stacks))):
            async with watched:
                await stock_reads.reads_per_second(api.api_url, api.token, read, seconds)


async def _relay(rows: int, stacks: Path) -> None:
    async with streaming_peers.stand([], 0, 0) as ready:
        await relay.drain(ready, relay.PROGRAMS["Stockflow"], rows, lambda pid: sampled(pid, stacks))


def _batch(entries: int, folder: Path) -> str:
    """The operators of the batch transformation and of the same as a script, each with its time over all threads."""
    source, timings = folder / "entries.parquet", folder / "timings.json"
    batch_transformation.make_entries(source, entries)
    profiling = f"PRAGMA enable_profiling = 'json'; SET profiling_output = '{timings}'"
    ours = ibis.duckdb.connect(memory_limit=batch_transformation.MEMORY, preserve_insertion_order=False)
    query = ours.compile(batch_transformation.metrics(ours.read_parquet(source)))
    ours.con.execute(profiling)
    ours.con.execute(f"COPY ({query}) TO '{folder}/ours.parquet' (FORMAT parquet, ROW_GROUP_SIZE {ROWS_PER_GROUP})")
    found = f"{batch_transformation.OURS}, {entries:,} entries\n{_operators(json.loads(timings.read_text()))}"
    ours.disconnect()
    duckdb.execute(profiling)
    batch_transformation.with_duckdb(source, folder / "script.parquet")
    return f"{found}\n{batch_transformation.PEER}\n{_operators(json.loads(timings.read_text()))}"


def _operators(query: Any) -> str:
    """A query's operators, the longest first."""
    operators, waiting = [], [query]
    while waiting:
        operator = waiting.pop()
        waiting += operator["children"]
        if "operator_name" in operator:
            operators.append(operator)
    operators.sort(key=itemgetter("operator_timing"), reverse=True)
    rows = [f"{'seconds':>8} {'rows':>10}  operator"]
    for operator in operators:
        if operator["operator_timing"] >= LEAST_SECONDS:
            does = operator["extra_info"].get("Projections") or operator["extra_info"].get("Aggregates") or ""
            what = f"{operator['operator_name']} {does}"[:MOST_LETTERS]
            rows.append(f"{operator['operator_timing']:8.2f} {operator['operator_cardinality']:10}  {what}")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Profile and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("process", nargs="?", choices=PROCESSES, default="stream")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--entries", type=int, default=batch_transformation.ENTRIES, help="of the batch transformation")
    arguments = parser.parse_args()
    PROFILES.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="stockflow-bench-") as name:
        stacks = Path(name) / "stacks.txt"
        if arguments.process == "batch":
            (PROFILES / "batch.txt").write_text(_batch(arguments.entries, Path(name)))
            return
        if arguments.process == "inventory":
            asyncio.run(_sales(stacks))
        elif arguments.process == "reads":
            asyncio.run(_reads(stacks))
        elif arguments.process == "relay":
            asyncio.run(_relay(arguments.events, stacks))
        else:
            asyncio.run(measure(arguments.process, arguments.events, 1_000, lambda pid: sampled(pid, stacks)))
        found = work(stacks.read_text().splitlines())
        (PROFILES / f"{arguments.process}.stacks.txt").write_text("\n".join(found) + "\n")
        (PROFILES / f"{arguments.process}.txt").write_text(shares(found))


if __name__ == "__main__":
    main()
