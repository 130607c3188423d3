"""python -m tools.replay FILE: replay a CSV or Parquet of sales as stock transactions through REST.

Exit code: 0 every row is posted; 1 some rows were rejected, see the list; 2 the replay could not be done.
"""

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr, ValidationError
from rich.console import Console

from tools.replay import api, progress, rejects, sales, source, workload
from tools.replay.run import Outcome, Replay
from tools.replay.settings import STACK_ENV_FILE, ClientSettings

ALL_POSTED, SOME_REJECTED, NOT_DONE = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Replay the file named on the command line; the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True, soft_wrap=True)
    try:
        return asyncio.run(_replay(options, _settings(options), console))
    except ValidationError as error:
        missing = ", ".join(str(part["loc"][0]).upper() for part in error.errors())
        console.print(
            f"No stack to replay to: set {missing}, or start one with `make up` ({STACK_ENV_FILE}).", style="red"
        )
    except (source.UnreadableFile, api.UnexpectedAnswer, api.TryAgain, httpx.HTTPError) as error:
        console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
    return NOT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.replay", description=__doc__)
    parser.add_argument("file", type=Path, help="CSV or Parquet with the columns of the Online Retail data set")
    parser.add_argument("--speed", type=_positive, help="times real time; without it as fast as accepted")
    parser.add_argument("--until", type=_instant, help="post only what happened up to this instant (ISO 8601, UTC)")
    parser.add_argument("--connections", type=int, default=4, help="requests at a time (default: %(default)s)")
    parser.add_argument(
        "--policies", type=int, default=500, help="busiest stock items with a reorder policy (%(default)s)"
    )
    parser.add_argument("--thresholds", type=int, default=50, help="busiest stock items with thresholds (%(default)s)")
    parser.add_argument("--rejects", type=Path, help="list of rejected rows (default: .local/rejects/FILE.csv)")
    parser.add_argument("--api-key", type=SecretStr, help=f"default: API_KEY of the environment or of {STACK_ENV_FILE}")
    return parser


def _positive(text: str) -> float:
    if (number := float(text)) <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return number


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _settings(options: argparse.Namespace) -> ClientSettings:
    given: dict[str, Any] = {} if options.api_key is None else {"api_key": options.api_key}
    return ClientSettings(**given)


async def _replay(options: argparse.Namespace, settings: ClientSettings, console: Console) -> int:
    rows = source.read(options.file)
    screened = sales.screen(rows, now=datetime.now(UTC))
    work = workload.from_sales(
        screened.sales, policies=options.policies, thresholds=options.thresholds, until=options.until
    )
    services = api.connected(
        settings.inventory_url,
        settings.reorder_url,
        settings.api_key.get_secret_value(),
        connections=options.connections,
    )
    with progress.shown_on(console) as display:
        async with services as client:
            outcome = await Replay(client, display, connections=options.connections).post(work, speed=options.speed)
    rejected = screened.rejected.vstack(rejects.of_documents(outcome.refused))
    path = options.rejects or Path(".local/rejects") / f"{options.file.stem}.csv"
    rejects.write(path, rows, rejected)
    _report(console, outcome, len(rows) - screened.rejected.height - work.line_count)
    for reason, count in rejects.counts(rejected):
        console.print(f"{count:,} rows rejected: {reason}", style="yellow", markup=False)
    if not rejected.is_empty():
        console.print(f"The rejected rows, with the reason, are in {path}", markup=False)
    return ALL_POSTED if outcome.complete and rejected.is_empty() else SOME_REJECTED


def _report(console: Console, outcome: Outcome, not_due: int) -> None:
    rate = outcome.lines / outcome.seconds if outcome.seconds else 0.0
    console.print(
        f"{outcome.documents:,} documents with {outcome.lines:,} lines posted in {outcome.seconds:,.1f} s"
        f" ({rate:,.0f} lines/s); {outcome.replayed:,} of them were there already.",
        highlight=False,
    )
    if not_due:
        console.print(f"{not_due:,} rows happened after --until.", highlight=False)
    for item, refusal in outcome.refused_setup:
        console.print(f"{item}: {refusal.code}: {refusal.detail}", style="yellow", markup=False)


if __name__ == "__main__":
    sys.exit(main())
