"""`python -m services.inventory JOB`: one process, one job.

Imports stand with the jobs: a process loads only what its job needs, and starts in half the time.
"""

import argparse
import asyncio
import sys
from datetime import datetime
from functools import partial
from typing import NoReturn

from libs.chassis import process
from services.inventory.settings import Settings

COMMAND_TIMEOUT_MS = 600_000


def main() -> NoReturn:
    """Do what the command line names."""
    arguments = _parser().parse_args()
    settings = Settings()
    url = settings.database_url.get_secret_value()
    name = f"inventory-{arguments.job}"
    match arguments.job:
        case "api":
            from services.inventory.app import create_app

            process.serve(create_app(settings), settings, name)
        case "relay":
            from libs.events.relay import Relay
            from libs.events.settings import KafkaSettings

            relay = Relay(database_url=url, kafka=KafkaSettings(), name=name)
            process.run(relay.run, settings=settings, name=name)
        case "sweep":
            from services.inventory import sweep

            process.run(partial(sweep.run, settings=settings), settings=settings, name=name)
        case "audit":
            sys.exit(asyncio.run(_audit(url)))
        case _:
            sys.exit(asyncio.run(_republish(url, arguments.since)))


async def _audit(url: str) -> int:
    """Print what each audit found; exit code 1 unless all found nothing."""
    from libs.chassis.database import open_pool
    from services.inventory import audits

    async with await open_pool(url, size=1, application_name="inventory-audit") as pool:
        found = await audits.run(pool)
    for name, violations in found.items():
        print(f"{name}  {audits.PROMISES[name]}: {len(violations)} violations")
        for violation in violations[:20]:
            print(f"    {violation}")
    return 1 if any(found.values()) else 0


async def _republish(url: str, since: datetime | None) -> int:
    """Queue the events again and print how many."""
    from libs.chassis.database import open_pool
    from services.inventory.audits import EVER
    from services.inventory.republish import republish

    async with await open_pool(
        url, size=1, application_name="inventory-republish", statement_timeout_ms=COMMAND_TIMEOUT_MS
    ) as pool:
        print(f"{await republish(pool, since or EVER)} events queued")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.inventory", description=__doc__)
    processes = parser.add_subparsers(dest="job", required=True)
    processes.add_parser("api", help="serve the REST API")
    processes.add_parser("relay", help="send the outbox to Kafka")
    processes.add_parser("sweep", help="release overdue reservations and audit what changed")
    processes.add_parser("audit", help="check every promise of the ledger; exit code 1 when one is broken")
    again = processes.add_parser("republish", help="queue events again, after the broker has lost them")
    extent = again.add_mutually_exclusive_group(required=True)
    extent.add_argument("--since", type=_instant, help="events recorded since this instant, with its offset")
    extent.add_argument("--all", action="store_true", help="every event ever")
    return parser


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise argparse.ArgumentTypeError("name the offset, as in 2026-01-31T00:00:00+00:00")
    return instant


if __name__ == "__main__":
    main()
