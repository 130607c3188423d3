"""Whole files in and out: few at a time, so that slow clients leave connections for everybody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request

from libs.chassis.problems import unavailable

MOST_AT_ONCE = 3
"""An export holds a connection of the pool as long as its client takes, an import the room of its file on disk."""

WAIT_SECONDS = 2.0
"""A place becomes free a little later than its client has the whole file: the next one may ask in between."""


def _places(request: Request) -> asyncio.Semaphore:
    places: asyncio.Semaphore = request.app.state.bulk
    return places


Places = Annotated[asyncio.Semaphore, Depends(_places)]


@asynccontextmanager
async def place(places: asyncio.Semaphore) -> AsyncIterator[None]:
    """To be held while a file is read or written; a `Problem` 503 when none becomes free in time."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await places.acquire()
    except TimeoutError as error:
        raise unavailable("bulk-busy", f"{MOST_AT_ONCE} imports and exports are under way. Try again.") from error
    try:
        yield
    finally:
        places.release()
