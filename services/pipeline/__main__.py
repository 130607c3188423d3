"""`python -m services.pipeline api|stream|metrics|archive|relay|rebuild-cache`: one process, one job."""

import argparse
from functools import partial
from typing import NoReturn

from libs.chassis import process
from libs.events.relay import run_relay
from services.pipeline import metrics
from services.pipeline.app import create_app
from services.pipeline.archive import Archive
from services.pipeline.settings import Settings
from services.pipeline.stream import Stream


def main() -> NoReturn:
    """Run the process that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m services.pipeline", description=__doc__)
    parser.add_argument("process", choices=("api", "stream", "metrics", "archive", "relay", "rebuild-cache"))
    job = parser.parse_args().process
    settings = Settings()
    name = f"pipeline-{job}"
    match job:
        case "api":
            process.serve(create_app(settings), settings, name)
        case "stream" | "archive":
            worker = Stream(settings) if job == "stream" else Archive(settings)
            process.run(worker.run, settings=settings, name=name, health=worker.health)
        case "metrics":
            process.run(partial(metrics.run, settings=settings), settings=settings, name=name)
        case "rebuild-cache":
            process.run(partial(metrics.rebuild_cache, settings=settings), settings=settings, name=name)
        case _:
            url = settings.database_url.get_secret_value()
            relay = partial(run_relay, database_url=url, kafka=settings.kafka, name=name)
            process.run(relay, settings=settings, name=name)


if __name__ == "__main__":
    main()
