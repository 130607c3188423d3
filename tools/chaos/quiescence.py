"""Waiting until everything that was sent has arrived everywhere."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from pymongo.errors import PyMongoError

from deploy.local.stack import Stack
from libs.events.postgres import TRANSIENT
from tools.chaos.stores import GROUPS, Stores

POLL_SECONDS = 1.0
QUIET_POLLS = 3
"""Events may be between two stations when one looks."""


async def until_quiet(stack: Stack, stores: Stores, advance: Callable[[int], None], *, patience_seconds: float) -> bool:
    """Wait until nothing is on its way any more; False when for `patience_seconds` the rest did not shrink."""
    quiet, least, least_at = 0, math.inf, time.monotonic()
    ends_before: dict[TopicPartition, int] = {}
    while quiet < QUIET_POLLS:
        await asyncio.sleep(POLL_SECONDS)
        try:
            ends = await stores.end_offsets()
            rest = await _outstanding(stores, ends)
        except (KafkaError, PyMongoError, *TRANSIENT):
            rest, ends = None, ends_before
        settled = rest == 0 and ends == ends_before and stack.is_ready
        quiet = quiet + 1 if settled else 0
        if rest is not None and (rest < least or ends != ends_before):
            advance(max(0, int(least - rest)) if least != math.inf else 0)
            least, least_at = rest, time.monotonic()
        elif quiet == 0 and time.monotonic() - least_at > patience_seconds:
            return False
        ends_before = ends
    return True


async def _outstanding(stores: Stores, ends: Mapping[TopicPartition, int]) -> int:
    """Rows and records that wait somewhere."""
    offsets = await stores.next_offsets()
    behind = sum(
        end - (offsets.get((group, place.topic, place.partition)) or 0)
        for group, sources in GROUPS.items()
        for place, end in ends.items()
        if place.topic in {source.name for source in sources}
    )
    return behind + sum((await stores.waiting()).values())
