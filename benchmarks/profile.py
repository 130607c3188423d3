"""Where the time of a process goes: functions by samples of py-spy.

`make bench` or `make .local/bench/profiler/stamp` makes the profiler's environment; then
`python -m benchmarks.profile stream` writes `benchmarks/profiles/stream.txt`, functions with their shares, and
`stream.stacks.txt`, the stacks themselves, which https://speedscope.app and flamegraph.pl draw. Imports are left out.
"""

import argparse
import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import relay, streaming_peers
from benchmarks.inventory_writes import CONNECTIONS, ITEMS, documents, stand
from benchmarks.streaming_cpu import measure
from tests.stack import ROOT

PY_SPY = ROOT / ".local/bench/profiler/bin/py-spy"
PROFILES = Path(__file__).parent / "profiles"
MOST = 30
WARM_UP_SECONDS, SALES_SECONDS = 2.0, 10.0
LOOP = "Runner.run (asyncio/runners.py"


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
    """The stacks of the event loop's tasks, without what is imported there; equal ones together."""
    tally: Counter[str] = Counter()
    for line in lines:
        stack, _, number = line.rpartition(" ")
        _, loop, task = stack.partition(LOOP)
        if loop and "<frozen importlib" not in task:
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


async def _relay(rows: int, stacks: Path) -> None:
    async with streaming_peers.stand([], 0, 0) as ready:
        await relay.drain(ready, relay.PROGRAMS["Stockflow"], rows, lambda pid: sampled(pid, stacks))


def main() -> None:
    """Profile and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("process", nargs="?", choices=["stream", "archive", "relay", "inventory"], default="stream")
    parser.add_argument("--events", type=int, default=200_000)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="stockflow-bench-") as name:
        stacks = Path(name) / "stacks.txt"
        if arguments.process == "inventory":
            asyncio.run(_sales(stacks))
        elif arguments.process == "relay":
            asyncio.run(_relay(arguments.events, stacks))
        else:
            asyncio.run(measure(arguments.process, arguments.events, 1_000, lambda pid: sampled(pid, stacks)))
        PROFILES.mkdir(exist_ok=True)
        found = work(stacks.read_text().splitlines())
        (PROFILES / f"{arguments.process}.stacks.txt").write_text("\n".join(found) + "\n")
        (PROFILES / f"{arguments.process}.txt").write_text(shares(found))


if __name__ == "__main__":
    main()
