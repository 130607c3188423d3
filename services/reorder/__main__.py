"""`python -m services.reorder api|consume|relay`: one process, one job."""

import argparse
import asyncio
import socket
from typing import NoReturn

from libs.chassis import process
from libs.chassis.database import open_pool
from libs.events.consumer import Runner
from libs.events.offsets import PostgresSink
from libs.events.relay import run_relay
from services.reorder.app import create_app
from services.reorder.consumer import GROUP, TOPICS, handle
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


def main() -> NoReturn:
    """Run the process that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m services.reorder", description=__doc__)
    parser.add_argument("process", choices=("api", "consume", "relay"))
    job = parser.parse_args().process
    settings = Settings()
    name = f"reorder-{job}"
    if job == "api":
        process.serve(create_app(settings), settings, name)
    if job == "consume":
        consumer = Consumer(settings)
        process.run(consumer.run, settings=settings, name=name, health=consumer.health)
    process.run(
        lambda stop: run_relay(
            stop, database_url=settings.database_url.get_secret_value(), kafka=settings.kafka, name=name
        ),
        settings=settings,
        name=name,
    )


if __name__ == "__main__":
    main()
