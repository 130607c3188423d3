"""`python -m services.analytics JOB`: one process, one job.

Imports stand with the jobs: a process loads only what its job needs, and starts in half the time.
"""

import argparse
import asyncio
import sys
from typing import NoReturn

from libs.chassis import process
from libs.operations import command_line
from services.analytics.settings import Settings


def main() -> NoReturn:
    """Do what the command line names."""
    arguments = _parser().parse_args()
    settings = Settings()
    name = f"analytics-{arguments.job}"
    match arguments.job:
        case "api":
            from services.analytics.app import create_app

            process.serve(create_app(settings), settings, name)
        case "consume":
            from libs.operations import consumer_process
            from services.analytics import consumer

            consumer_process.run(consumer.open_runner(settings), settings=settings, name=name)
        case "projections":
            sys.exit(asyncio.run(_rebuild(settings, arguments)))
        case _:
            sys.exit(asyncio.run(_dead_letters(settings, arguments)))


async def _dead_letters(settings: Settings, arguments: argparse.Namespace) -> int:
    from services.analytics.dead_letters import MongoDeadLetters
    from services.analytics.documents import open_documents

    async with open_documents(settings.mongo_url.get_secret_value(), "analytics-dead-letters") as store:
        return await command_line.dead_letters(MongoDeadLetters(store), arguments)


async def _rebuild(settings: Settings, arguments: argparse.Namespace) -> int:
    from services.analytics.documents import open_documents
    from services.analytics.rebuild import rebuild

    async with open_documents(settings.mongo_url.get_secret_value(), "analytics-rebuild") as store:
        work = rebuild(store, settings, command_line.progress, accept_dead_letters=arguments.accept_dead_letters)
        return await command_line.rebuild(work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.analytics", description=__doc__)
    commands = parser.add_subparsers(dest="job", required=True)
    commands.add_parser("api", help="serve the REST API")
    commands.add_parser("consume", help="events to documents")
    command_line.add_dead_letters(commands)
    projections = command_line.add_projections(commands, mongo="the history, from the beginning of the topics")
    command_line.add_acceptance(projections.choices["mongo"])
    return parser


if __name__ == "__main__":
    main()
