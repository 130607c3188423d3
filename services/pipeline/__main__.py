"""`python -m services.pipeline JOB`: one process, one job."""

import argparse
import asyncio
import sys
from functools import partial
from typing import NoReturn

from libs.chassis import process
from libs.chassis.database import acquired, open_pool
from libs.events.relay import run_relay
from libs.operations import command_line
from libs.operations.rebuild import rebuild
from services.pipeline import metrics, stream
from services.pipeline.app import create_app, dead_letter_store
from services.pipeline.archive import Archive
from services.pipeline.settings import Settings
from services.pipeline.stream import Stream


async def _dead_letters(settings: Settings, arguments: argparse.Namespace) -> int:
    url = settings.database_url.get_secret_value()
    async with await open_pool(url, size=1, application_name="pipeline-dead-letters") as pool:
        return await command_line.dead_letters(dead_letter_store(pool, settings), arguments)


async def _republish(settings: Settings) -> None:
    url = settings.database_url.get_secret_value()
    async with (
        await open_pool(url, size=1, application_name="pipeline-republish") as pool,
        acquired(pool) as connection,
    ):
        await stream.mark_everything(connection)


def main() -> NoReturn:
    """Do what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m services.pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="job", required=True)
    commands.add_parser("api", help="serve the REST API")
    commands.add_parser("stream", help="inventory events to positions and facts")
    commands.add_parser("metrics", help="facts to velocity and trend, their events and the cache")
    commands.add_parser("archive", help="events of all topics to the lake")
    commands.add_parser("relay", help="send the outbox to Kafka")
    commands.add_parser("rebuild", help="build positions and facts anew from the topic, beside the running workers")
    commands.add_parser("rebuild-cache", help="write all of Redis anew from Postgres")
    commands.add_parser("republish", help="calculate and publish all metrics again, if the broker lost them")
    command_line.add_dead_letters(commands)
    arguments = parser.parse_args()
    settings = Settings()
    url = settings.database_url.get_secret_value()
    name = f"pipeline-{arguments.job}"
    match arguments.job:
        case "api":
            process.serve(create_app(settings), settings, name)
        case "stream" | "archive":
            worker = Stream(settings) if arguments.job == "stream" else Archive(settings)
            process.run(worker.run, settings=settings, name=name, health=worker.health)
        case "metrics":
            process.run(partial(metrics.run, settings=settings), settings=settings, name=name)
        case "relay":
            relay = partial(run_relay, database_url=url, kafka=settings.kafka, name=name)
            process.run(relay, settings=settings, name=name)
        case "rebuild-cache":
            process.run(partial(metrics.rebuild_cache, settings=settings), settings=settings, name=name)
        case "dead-letters":
            sys.exit(asyncio.run(_dead_letters(settings, arguments)))
        case "republish":
            sys.exit(asyncio.run(_republish(settings)))
        case _:
            job = rebuild(stream.REBUILD, database_url=url, kafka=settings.kafka, progress=command_line.progress)
            sys.exit(asyncio.run(job))


if __name__ == "__main__":
    main()
