"""Whole files in and out: few at a time, so that slow clients leave connections for everybody else."""

import asyncio
from typing import Annotated

from fastapi import Depends, Request

from libs.chassis.problems import unavailable

MOST_AT_ONCE = 3
"""Each holds a connection of the pool as long as its client takes."""


async def _places(request: Request) -> asyncio.Semaphore:
    places: asyncio.Semaphore = request.app.state.bulk
    if places.locked():
        raise unavailable("bulk-busy", f"{MOST_AT_ONCE} imports and exports are under way already. Try again.")
    return places


Places = Annotated[asyncio.Semaphore, Depends(_places)]
"""To be held while a file is read or written; a `Problem` 503 when none is free."""
