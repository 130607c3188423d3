"""A process that is one consumer group's runner."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import NoReturn

from libs.chassis import process
from libs.chassis.settings import ServiceSettings
from libs.events.consumer import Runner


def run(opened: AbstractAsyncContextManager[Runner], *, settings: ServiceSettings, name: str) -> NoReturn:
    """Open the runner with its connections, consume until asked to stop, and exit; as unhealthy as the runner is."""
    running: Runner | None = None

    async def consume(stop: asyncio.Event) -> None:
        nonlocal running
        async with opened as running:
            await running.run(stop)

    process.run(consume, settings=settings, name=name, health=lambda: running.health() if running else None)
