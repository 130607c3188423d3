"""`python -m services.analytics api|consume`: one process, one job."""

import argparse
import asyncio
import socket
from typing import NoReturn

from libs.chassis import process
from libs.events.consumer import Runner
from services.analytics.app import create_app
from services.analytics.consumer import TOPICS, HistorySink
from services.analytics.documents import open_documents
from services.analytics.settings import Settings


class Consumer:
    """The `consume` process: events to documents."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._runner: Runner | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set."""
        settings = self._settings
        async with open_documents(settings.mongo_url.get_secret_value(), "analytics-consume") as store:
            await store.create_indexes()
            self._runner = Runner(
                HistorySink(store, settings.kafka, owner=socket.gethostname()),
                topics=TOPICS,
                kafka=settings.kafka,
                flush_max_records=settings.flush_max_records,
                flush_max_age_seconds=settings.flush_max_age_seconds,
            )
            await self._runner.run(stop)

    def health(self) -> str | None:
        """Why the process should be restarted, None while it works."""
        return self._runner.health() if self._runner else None


def main() -> NoReturn:
    """Run the process that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m services.analytics", description=__doc__)
    parser.add_argument("process", choices=("api", "consume"))
    job = parser.parse_args().process
    settings = Settings()
    name = f"analytics-{job}"
    if job == "api":
        process.serve(create_app(settings), settings, name)
    consumer = Consumer(settings)
    process.run(consumer.run, settings=settings, name=name, health=consumer.health)


if __name__ == "__main__":
    main()
