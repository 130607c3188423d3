"""`python -m services.reorder JOB`: one process, one job.

Imports stand with the jobs: a process loads only what its job needs, and starts in half the time.
"""

import argparse
import asyncio
import sys
from typing import NoReturn

from libs.chassis import process
from libs.operations import command_line
from services.reorder.settings import Settings


def main() -> NoReturn:
    """Do what the command line names."""
    arguments = _parser().parse_args()
    settings = Settings()
    url = settings.database_url.get_secret_value()
    name = f"reorder-{arguments.job}"
    match arguments.job:
        case "api":
            from services.reorder.app import create_app

            process.serve(create_app(settings), settings, name)
        case "consume":
            from libs.operations import consumer_process
            from services.reorder import consumer

            consumer_process.run(consumer.open_runner(settings), settings=settings, name=name)
        case "relay":
            from libs.events.relay import Relay

            relay = Relay(database_url=url, kafka=settings.kafka, name=name)
            process.run(relay.run, settings=settings, name=name)
        case "dead-letters":
            sys.exit(asyncio.run(_dead_letters(url, arguments)))
        case "republish":
            sys.exit(asyncio.run(_republish(url)))
        case _:
            sys.exit(asyncio.run(_rebuild(url, settings, arguments)))


async def _dead_letters(url: str, arguments: argparse.Namespace) -> int:
    from libs.chassis.database import open_pool
    from services.reorder.app import dead_letter_store

    async with await open_pool(url, size=1, application_name="reorder-dead-letters") as pool:
        return await command_line.dead_letters(dead_letter_store(pool), arguments)


async def _republish(url: str) -> None:
    from libs.chassis.database import open_pool
    from services.reorder import evaluation

    async with await open_pool(url, size=1, application_name="reorder-republish") as pool:
        print(f"{await evaluation.republish(pool)} events queued")


async def _rebuild(url: str, settings: Settings, arguments: argparse.Namespace) -> int:
    from libs.chassis.database import open_pool
    from services.reorder import evaluation
    from services.reorder.consumer import REBUILD

    code = await command_line.rebuild_group(REBUILD, url, settings.kafka, arguments)
    if code == 0:
        async with await open_pool(url, size=1, application_name="reorder-rebuild") as pool:
            await evaluation.evaluate_all(pool)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.reorder", description=__doc__)
    commands = parser.add_subparsers(dest="job", required=True)
    commands.add_parser("api", help="serve the REST API")
    commands.add_parser("consume", help="events to positions and recommendations")
    commands.add_parser("relay", help="send the outbox to Kafka")
    commands.add_parser("republish", help="queue the events of open recommendations again, if the broker lost them")
    command_line.add_dead_letters(commands)
    command_line.add_events(commands, "reorder-position")
    return parser


if __name__ == "__main__":
    main()
