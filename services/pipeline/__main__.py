"""`python -m services.pipeline JOB`: one process, one job.

Imports stand with the jobs: a process loads only what its job needs, and starts in half the time.
"""

import argparse
import asyncio
import sys
from functools import partial
from typing import NoReturn

from libs.chassis import process
from libs.operations import command_line
from services.pipeline.settings import Settings


def main() -> NoReturn:
    """Do what the command line names."""
    arguments = _parser().parse_args()
    settings = Settings()
    url = settings.database_url.get_secret_value()
    name = f"pipeline-{arguments.job}"
    match arguments.job:
        case "api":
            from services.pipeline.app import create_app

            process.serve(create_app(settings), settings, name)
        case "stream":
            from libs.operations import consumer_process
            from services.pipeline import stream

            consumer_process.run(stream.open_runner(settings), settings=settings, name=name)
        case "archive":
            from libs.operations import consumer_process
            from services.pipeline import archive

            consumer_process.run(archive.open_runner(settings), settings=settings, name=name)
        case "metrics":
            from services.pipeline import metrics

            process.run(partial(metrics.run, settings=settings), settings=settings, name=name)
        case "projections":
            from services.pipeline import metrics

            sys.exit(asyncio.run(metrics.rebuild_cache(settings)))
        case "lake-maintenance":
            from services.pipeline import lake_maintenance

            process.run(partial(lake_maintenance.run, settings=settings), settings=settings, name=name)
        case "batch":
            from services.pipeline.jobs import worker

            process.run(partial(worker.run, settings=settings), settings=settings, name=name)
        case "schedule":
            from services.pipeline.jobs.scheduler import Scheduler

            process.run(Scheduler(settings).run, settings=settings, name=name)
        case "mail":
            from services.pipeline import mailer

            process.run(partial(mailer.run, settings=settings), settings=settings, name=name)
        case "relay":
            from libs.events.relay import Relay

            relay = Relay(database_url=url, kafka=settings.kafka, name=name)
            process.run(relay.run, settings=settings, name=name)
        case "dead-letters":
            sys.exit(asyncio.run(_dead_letters(url, settings, arguments)))
        case "republish":
            sys.exit(asyncio.run(_republish(url)))
        case _:
            sys.exit(asyncio.run(_rebuild(url, settings, arguments)))


async def _dead_letters(url: str, settings: Settings, arguments: argparse.Namespace) -> int:
    from libs.chassis.database import open_pool
    from services.pipeline.app import dead_letter_store

    async with await open_pool(url, size=1, application_name="pipeline-dead-letters") as pool:
        return await command_line.dead_letters(dead_letter_store(pool, settings), arguments)


async def _republish(url: str) -> None:
    from libs.chassis.database import acquired, open_pool
    from services.pipeline.stream import mark_everything

    async with (
        await open_pool(url, size=1, application_name="pipeline-republish") as pool,
        acquired(pool) as connection,
    ):
        await mark_everything(connection)


async def _rebuild(url: str, settings: Settings, arguments: argparse.Namespace) -> int:
    from services.pipeline import metrics
    from services.pipeline.stream import REBUILD

    code = await command_line.rebuild_group(REBUILD, url, settings.kafka, arguments)
    if code == 0:
        await metrics.rebuild_cache(settings)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="job", required=True)
    commands.add_parser("api", help="serve the REST API")
    commands.add_parser("stream", help="inventory events to positions and facts")
    commands.add_parser("metrics", help="facts to velocity and trend, their events and the cache")
    commands.add_parser("archive", help="events of all topics to the lake")
    commands.add_parser("batch", help="execute the runs of batch jobs that are asked for")
    commands.add_parser("schedule", help="start the runs of batch jobs that are due, and watch their deadlines")
    commands.add_parser("mail", help="send the mails that wait")
    commands.add_parser("lake-maintenance", help="rewrite closed days in few files without repeats, delete old files")
    commands.add_parser("relay", help="send the outbox to Kafka")
    commands.add_parser("republish", help="calculate and publish all metrics again, if the broker lost them")
    command_line.add_dead_letters(commands)
    command_line.add_events(commands, "pipeline-stream")
    command_line.add_projections(commands, redis="stock and metrics in Redis, from Postgres")
    return parser


if __name__ == "__main__":
    main()
