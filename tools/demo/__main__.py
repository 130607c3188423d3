"""python -m tools.demo: run everything once, on a file of sales or on a simulated week, and print what came out.

Exit code: 0 all stores agree with the ledger and, for the simulation, with what must come out; 1 they do not;
2 the demo could not be run. Rows of a file that cannot be posted are counted and listed, and do not change it.
"""

import argparse
import asyncio
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from deploy.local.stack import AlreadyRunning, Stack
from deploy.local.supervisor import StartFailed
from tools.demo import feed, report, verification
from tools.demo.answers import Answers, read_answers
from tools.demo.catching_up import NotCaughtUp, catch_up
from tools.demo.feed import Feed, Simulated
from tools.demo.stockflow import connected
from tools.replay import api, rejects, source
from tools.replay.progress import Progress, shown_on
from tools.replay.run import Outcome, Replay

EXACT, NOT_EXACT, NOT_RUN = 0, 1, 2
DIRECTORY = Path(".local/demo")
REJECTS = Path(".local/rejects")
ENVIRONMENT = {
    # History is replayed: today is the last day of the data.
    "METRICS_CLOCK": "event",
    # Shorter waits than a service has, so that the end comes soon.
    "METRICS_INTERVAL_SECONDS": "1",
    "ARCHIVE_FLUSH_SECONDS": "5",
    # Batch jobs of today would find no movement in a history.
    "SCHEDULER": "external",
}
CONNECTIONS = 4
WIDTH = 120
"""Characters per line where no terminal says how many there are."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the demo did and saw."""

    outcome: Outcome
    answers: Answers
    start_seconds: float
    catch_up_seconds: float


def main() -> int:
    """Run the demo; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("--data", type=Path, help="CSV or Parquet of sales; without it a week is simulated")
    data = parser.parse_args().data
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    failures: list[BaseException] = []
    try:
        return _demo(data, console)
    except* (source.UnreadableFile, StartFailed, AlreadyRunning) as found:
        failures += _leaves(found)
    except* (api.UnexpectedAnswer, api.TryAgain, httpx.HTTPError, NotCaughtUp) as found:
        failures += _leaves(found)
        console.print(f"The logs of the processes are in {DIRECTORY / 'logs'}.")
    for failure in failures:
        console.print(f"{type(failure).__name__}: {failure}", style="red", markup=False)
    return NOT_RUN


def _leaves(error: BaseException) -> list[BaseException]:
    """The single errors of a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


def _demo(data: Path | None, console: Console) -> int:
    started = time.monotonic()
    fed = feed.simulated() if data is None else feed.from_file(data)
    console.print(fed.told, highlight=False)
    run = asyncio.run(_run(fed, console))
    for table in report.tables(run.answers):
        console.print("", table)
    console.print()
    _print_rejects(fed, run.outcome, console)
    _print_times(run, time.monotonic() - started, console)
    return _print_verdict(fed, run, console)


async def _run(fed: Feed, console: Console) -> Run:
    """Start an empty stack, post everything, wait until all have seen it, read the answers, stop."""
    started = time.monotonic()
    console.print(f"Starting servers and services in {DIRECTORY} ...", highlight=False)
    async with Stack(DIRECTORY, ports="auto", fresh=True, environment=ENVIRONMENT) as stack:
        start_seconds = time.monotonic() - started
        with shown_on(console) as progress:
            outcome = await _post(fed, stack, progress)
            posted = time.monotonic()
            async with connected(stack.env) as stockflow:
                await catch_up(stockflow, progress)
                catch_up_seconds = time.monotonic() - posted
                answers = await read_answers(stockflow)
    return Run(outcome, answers, start_seconds, catch_up_seconds)


async def _post(fed: Feed, stack: Stack, progress: Progress) -> Outcome:
    inventory, reorder, key = (stack.env[name] for name in ("INVENTORY_URL", "REORDER_URL", "API_KEY"))
    async with api.connected(inventory, reorder, key, connections=CONNECTIONS) as client:
        return await Replay(client, progress, connections=CONNECTIONS).post(fed.workload)


def _print_rejects(fed: Feed, outcome: Outcome, console: Console) -> None:
    """Say what was not posted, and why."""
    if isinstance(fed, Simulated):
        for code, count in verification.refusals(outcome):
            console.print(f"{count:,} faulty documents refused: {code}", style="yellow", markup=False)
        return
    rejected = fed.with_refused(outcome)
    for reason, count in rejects.counts(rejected):
        console.print(f"{count:,} rows rejected: {reason}", style="yellow", markup=False)
    for item, refusal in outcome.refused_setup:
        console.print(f"{item}: {refusal.code}: {refusal.detail}", style="yellow", markup=False)
    if not rejected.is_empty():
        path = REJECTS / f"{fed.path.stem}.csv"
        rejects.write(path, fed.rows, rejected)
        console.print(f"The rejected rows, with the reason, are in {path}", markup=False)


def _print_times(run: Run, seconds: float, console: Console) -> None:
    outcome = run.outcome
    rate = outcome.lines / outcome.seconds
    console.print(
        f"{seconds:.0f} s in all: start {run.start_seconds:.0f} s; {outcome.documents:,} documents with"
        f" {outcome.lines:,} lines posted in {outcome.seconds:.0f} s ({rate:,.0f} lines/s);"
        f" consumers caught up {run.catch_up_seconds:.0f} s later.",
        highlight=False,
    )


def _print_verdict(fed: Feed, run: Run, console: Console) -> int:
    oracle_agrees = True
    if isinstance(fed, Simulated):
        found = verification.against_oracle(fed.oracle, run.outcome, run.answers)
        oracle_agrees = not found
        told = "Every total is what the simulation says it must be." if oracle_agrees else report.disagreements(found)
        console.print(told)
    if run.answers.reconciliation["exact"] and oracle_agrees:
        console.print("All stores agree with the ledger: 0 differences.", style="bold green", highlight=False)
        return EXACT
    console.print("The stores do NOT agree; see above.", style="bold red")
    return NOT_EXACT


if __name__ == "__main__":
    sys.exit(main())
