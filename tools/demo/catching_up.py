"""Waiting until every service has seen everything."""

import asyncio
import time

from tools.demo.stockflow import Outstanding, Stockflow
from tools.replay.progress import Progress

_POLL_SECONDS = 0.5
_QUIET_POLLS = 2
"""One look could fall between two stations; the second finds what was on its way."""


class NotCaughtUp(Exception):
    """Work still waits, and for a long time none of it was done."""


async def catch_up(stockflow: Stockflow, progress: Progress, *, patience_seconds: float = 120.0) -> None:
    """Return when nothing waits anywhere. Raises NotCaughtUp when the rest does not shrink for `patience_seconds`."""
    rest = await stockflow.outstanding()
    least, least_at = rest.total, time.monotonic()
    progress.stage("Consumers catching up", rest.total)
    quiet = 0
    while quiet < _QUIET_POLLS:
        await asyncio.sleep(_POLL_SECONDS)
        rest = await stockflow.outstanding()
        quiet = quiet + 1 if rest.total == 0 else 0
        if rest.total < least:
            progress.advance(least - rest.total)
            least, least_at = rest.total, time.monotonic()
        elif rest.total and time.monotonic() - least_at > patience_seconds:
            raise NotCaughtUp(_told(rest, patience_seconds))


def _told(rest: Outstanding, seconds: float) -> str:
    return (
        f"no progress for {seconds:.0f} s: {rest.outbox_events:,} events in outboxes,"
        f" {rest.consumer_lag:,} not consumed, {rest.metric_backlog:,} stock items without new metrics"
    )
