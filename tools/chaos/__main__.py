"""python -m tools.chaos: load under kills, zombies, restarts and poison; then every store is checked.

Exit code: 0 every invariant holds and the naive control is wrong; 1 not so; 2 the run was not possible.
"""

import argparse
import asyncio
import logging
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from deploy.local.apache_kafka import Unavailable
from deploy.local.stack import AlreadyRunning
from deploy.local.supervisor import StartFailed
from tools.chaos import report
from tools.chaos.run import run
from tools.chaos.scale import FULL, SHORT
from tools.replay import progress

DIRECTORY = Path(".local/chaos")
PROVED, NOT_PROVED, NOT_RUN = 0, 1, 2


def main() -> None:
    """Read the command line, run, report."""
    arguments = _parser().parse_args()
    scale = SHORT if arguments.short else FULL
    chosen = {name: getattr(arguments, name) for name in ("events", "kills", "seconds")}
    scale = replace(scale, **{name: value for name, value in chosen.items() if value is not None})
    console = Console()
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # It tells of every broken connection.
    arguments.directory.mkdir(parents=True, exist_ok=True)
    try:
        with progress.shown_on(console) as shown:
            result = asyncio.run(
                run(
                    scale,
                    seed=arguments.seed,
                    broker=arguments.broker,
                    directory=arguments.directory,
                    progress=shown,
                )
            )
    except* (StartFailed, AlreadyRunning, Unavailable) as errors:
        console.print("\n".join(str(error) for error in errors.exceptions), markup=False, highlight=False)
        sys.exit(NOT_RUN)
    report.write(result, arguments.directory / "result.json")
    report.show(result, console)
    sys.exit(PROVED if result.violated == 0 and result.proves_something else NOT_PROVED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    parser.add_argument("--events", type=int, help=f"events to make, {FULL.events} unless --short")
    parser.add_argument("--kills", type=int, help=f"SIGKILLs from outside, {FULL.kills} unless --short")
    parser.add_argument("--seconds", type=float, help="time over which load and trouble are spread")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is chosen at random")
    parser.add_argument("--broker", choices=["embedded", "apache"], default="embedded")
    parser.add_argument("--short", action="store_true", help="a small run of about a minute")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="data, logs and result.json")
    return parser


if __name__ == "__main__":
    main()
