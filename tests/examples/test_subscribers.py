import asyncio
import sys
from pathlib import Path

import pytest

from libs.events.settings import KafkaSettings
from tests.events.conftest import send
from tests.factories import an_inventory_update

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("confluent_kafka_subscriber.py", "2026-03-02T12:00:00Z 3 x LAPTOP-001 in BERLIN-1"),
        ("faststream_subscriber.py", "LAPTOP-001: 3 sold"),
    ],
)
async def test_a_third_partys_subscriber_reads_our_events(kafka: KafkaSettings, script: str, line: str) -> None:
    await send(kafka, an_inventory_update(quantity_change=-3))

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / script), kafka.bootstrap_servers, kafka.topic("inventory-events")),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(40):
            printed = ""
            while line not in printed and (read := await process.stdout.readline()):
                printed += read.decode()
    finally:
        process.terminate()
        status = await process.wait()

    assert line in printed
    assert status == 0
