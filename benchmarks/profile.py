"""Where the time of a process of the pipeline goes: functions by samples of py-spy.

`make bench` or `make .local/bench/profiler/stamp` makes the profiler's environment; then
`python -m benchmarks.profile stream` writes `benchmarks/profiles/stream.txt`.
"""

import argparse
import asyncio
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.streaming_cpu import measure
from tests.stack import ROOT

PY_SPY = ROOT / ".local/bench/profiler/bin/py-spy"
PROFILES = Path(__file__).parent / "profiles"
MOST = 30


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


def main() -> None:
    """Profile and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("process", nargs="?", choices=["stream", "archive"], default="stream")
    parser.add_argument("--events", type=int, default=200_000)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="stockflow-bench-") as name:
        stacks = Path(name) / "stacks.txt"
        asyncio.run(measure(arguments.process, arguments.events, 1_000, lambda pid: sampled(pid, stacks)))
        PROFILES.mkdir(exist_ok=True)
        (PROFILES / f"{arguments.process}.txt").write_text(shares(stacks.read_text().splitlines()))


if __name__ == "__main__":
    main()
