"""Starting aiokafka's clients so that they can be stopped again, whenever that is asked."""

import asyncio
from contextlib import suppress
from typing import Protocol

from aiokafka.errors import KafkaError

PATIENCE_SECONDS = 10.0


class Client(Protocol):
    """A consumer, producer or admin client."""

    async def start(self) -> None:
        """Connect."""


async def start(client: Client) -> None:
    """Start a client. A cancellation waits until it has, so that `stop` finds every connection.

    aiokafka 0.14 forgets one otherwise: `AIOKafkaClient.bootstrap` closes its first connection after a KafkaError or
    a timeout, but not when it is cancelled while the metadata are on their way.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(starting, PATIENCE_SECONDS)
        raise
