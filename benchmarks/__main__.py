"""`python -m benchmarks`: every measurement of docs/performance.md, one after another.

Each is a program of its own (`python -m benchmarks.NAME --help`) that writes its results when it is done, so what was
measured before a stop is kept. When one fails the others are measured all the same, and the exit code is 1.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence

from benchmarks import summary

MEASUREMENTS: Sequence[tuple[str, Sequence[str], Sequence[str]]] = [
    ("streaming_peers", ["--rounds", "3"], ["--events", "60000", "--rounds", "1", "--seconds", "5"]),
    ("sinks", ["--rounds", "3"], ["--events", "60000", "--rounds", "1", "--seconds", "5"]),
    ("stream_workers", ["--rounds", "3"], ["--workers", "1", "2", "--events", "120000", "--rounds", "1"]),
    ("inventory_writes", ["--rounds", "3"], ["--rounds", "1", "--seconds", "1"]),
    ("relay", [], ["--rows", "20000", "--rounds", "1"]),
    ("batch_transformation", [], ["--entries", "500000", "--rounds", "1"]),
    ("batch_jobs", [], ["--entries", "50000", "--snapshot-days", "2"]),
    (
        "long_run",
        ["--events", "10000000", "2000000", "--items", "1000", "200000"],
        ["--events", "60000", "60000", "--items", "1000", "20000", "--step", "20000"],
    ),
    ("stock_reads", [], ["--seconds", "2", "--rounds", "1"]),
    ("event_latency", [], ["--events-per-second", "200", "--seconds", "5", "--flush-seconds", "1"]),
]
"""Module, arguments, and arguments of the short form, which shows that everything runs; its figures mean little."""


def main() -> None:
    """Measure everything, then print, write and plot what holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few minutes instead of more than an hour")
    short = parser.parse_args().short
    failed = []
    for module, arguments, short_arguments in MEASUREMENTS:
        chosen = short_arguments if short else arguments
        print("measuring", module, *chosen, flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *chosen], check=False).returncode:
            failed.append(module)
    summary.main()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; their output is above, older results of theirs are kept")


if __name__ == "__main__":
    main()
