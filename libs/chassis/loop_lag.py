"""How late the event loop wakes a timer: what a call that blocks costs everybody else in the process."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Gauge

INTERVAL_SECONDS = 0.25
WINDOW_SECONDS = 15.0

LOOP_LAG = Gauge("stockflow_event_loop_lag_seconds", "The latest that a timer was woken in the last 15 seconds.")


@asynccontextmanager
async def measured() -> AsyncIterator[None]:
    """Keep the gauge up to date within the block."""
    watch = asyncio.create_task(_watch())
    try:
        yield
    finally:
        watch.cancel()


async def _watch() -> None:
    clock = asyncio.get_running_loop().time
    recent: deque[float] = deque(maxlen=int(WINDOW_SECONDS / INTERVAL_SECONDS))
    while True:
        due = clock() + INTERVAL_SECONDS
        await asyncio.sleep(INTERVAL_SECONDS)
        recent.append(max(0.0, clock() - due))
        LOOP_LAG.set(max(recent))
