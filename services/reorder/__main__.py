"""`python -m services.reorder JOB`: one process, one job."""

import argparse
import asyncio
import socket
import sys
from functools import partial
from typing import NoReturn

from libs.chassis import process
from libs.chassis.database import open_pool
from libs.events.consumer import Runner
from libs.events.offsets import PostgresSink
from libs.events.relay import run_relay
from libs.operations import command_line
from libs.operations.postgres_dead_letters import PostgresDeadLetters
from libs.operations.rebuild import rebuild
from services.reorder import evaluation
from services.reorder.app import create_app
from services.reorder.consumer import GROUP, REBUILD, TOPICS, handle
from services.reorder.settings import Settings

FLUSH_TIMEOUT_MS = 60_000


class Consumer:
    """The `consume` process: events to positions and recommendations."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runner: Runner | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set."""
        settings = self._settings
        url = settings.database_url.get_secret_value()
        pool = await open_pool(
            url,
            size=2,
            application_name="reorder-consume",
            statement_timeout_ms=FLUSH_TIMEOUT_MS,
            lock_timeout_ms=5_000,
        )
        async with pool:
            self._runner = Runner(
                PostgresSink(pool, GROUP, handle, owner=socket.gethostname()),
                topics=TOPICS,
                kafka=settings.kafka,
                flush_max_records=settings.flush_max_records,
                flush_max_age_seconds=settings.flush_max_age_seconds,
            )
            await self._runner.run(stop)

    def health(self) -> str | None:
        """Why the process should be restarted, None while it works."""
        return self._runner.health() if self._runner else None


async def _dead_letters(settings: Settings, arguments: argparse.Namespace) -> int:
    url = settings.database_url.get_secret_value()
    async with await open_pool(url, size=1, application_name="reorder-dead-letters") as pool:
        return await command_line.dead_letters(PostgresDeadLetters(pool, {GROUP: handle}), arguments)


async def _rebuild(settings: Settings) -> None:
    url = settings.database_url.get_secret_value()
    await rebuild(REBUILD, database_url=url, kafka=settings.kafka, progress=command_line.progress)
    async with await open_pool(url, size=1, application_name="reorder-rebuild") as pool:
        await evaluation.evaluate_all(pool)


async def _republish(settings: Settings) -> None:
    url = settings.database_url.get_secret_value()
    async with await open_pool(url, size=1, application_name="reorder-republish") as pool:
        print(f"{await evaluation.republish(pool)} events queued")


def main() -> NoReturn:
    """Do what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m services.reorder", description=__doc__)
    commands = parser.add_subparsers(dest="job", required=True)
    commands.add_parser("api", help="serve the REST API")
    commands.add_parser("consume", help="events to positions and recommendations")
    commands.add_parser("relay", help="send the outbox to Kafka")
    commands.add_parser("rebuild", help="build the positions anew from the topics, beside the running workers")
    commands.add_parser("republish", help="queue the events of open recommendations again, if the broker lost them")
    command_line.add_dead_letters(commands)
    arguments = parser.parse_args()
    settings = Settings()
    name = f"reorder-{arguments.job}"
    match arguments.job:
        case "api":
            process.serve(create_app(settings), settings, name)
        case "consume":
            consumer = Consumer(settings)
            process.run(consumer.run, settings=settings, name=name, health=consumer.health)
        case "relay":
            url = settings.database_url.get_secret_value()
            relay = partial(run_relay, database_url=url, kafka=settings.kafka, name=name)
            process.run(relay, settings=settings, name=name)
        case "dead-letters":
            sys.exit(asyncio.run(_dead_letters(settings, arguments)))
        case "republish":
            sys.exit(asyncio.run(_republish(settings)))
        case _:
            sys.exit(asyncio.run(_rebuild(settings)))


if __name__ == "__main__":
    main()
