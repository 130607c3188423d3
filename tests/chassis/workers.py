"""Processes of several kinds, as the subjects of the process tests: `python -m tests.chassis.workers KIND`."""

import asyncio
import sys
import time

from prometheus_client import Counter

from libs.chassis.process import Main, run, serve
from libs.chassis.settings import ServiceSettings
from tests.chassis.example import create_example

STEPS = Counter("stockflow_test_steps", "Steps of a worker.")


async def patient(stop: asyncio.Event) -> None:
    """Works until it is asked to stop."""
    STEPS.inc()
    await stop.wait()


async def blocking(stop: asyncio.Event) -> None:
    """Keeps the event loop to itself for a while, then works until it is asked to stop."""
    await asyncio.sleep(0.3)
    time.sleep(1.0)  # noqa: ASYNC251 - that it blocks is the point
    await stop.wait()


async def crashing(_stop: asyncio.Event) -> None:
    """Fails at once."""
    raise RuntimeError("out of luck")


async def finished(_stop: asyncio.Event) -> None:
    """Has nothing to do."""


async def deaf(_stop: asyncio.Event) -> None:
    """Never stops of its own will."""
    await asyncio.Event().wait()


WORKERS: dict[str, Main] = {
    "patient": patient,
    "blocking": blocking,
    "crashing": crashing,
    "finished": finished,
    "deaf": deaf,
}


def start(kind: str) -> None:
    """Become the process of this kind."""
    settings = ServiceSettings()
    if kind == "api":
        serve(create_example(settings), settings, "example")
    if kind == "sick":
        run(patient, settings=settings, name="sick", health=lambda: "consumer stalled")
    run(WORKERS[kind], settings=settings, name=kind)


if __name__ == "__main__":
    start(sys.argv[1])
