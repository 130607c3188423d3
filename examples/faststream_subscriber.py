"""A subscriber in FastStream: keeps count of the units sold per sku.

    pip install "faststream[kafka]"
    python examples/faststream_subscriber.py localhost:9092

It declares only the fields that it needs; Stockflow may add others at any time.
"""

import asyncio
import sys
from collections import Counter
from uuid import UUID

from faststream import FastStream
from faststream.kafka import KafkaBroker
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

TOPIC = "inventory-events"


class StockEvent(BaseModel):
    """The fields of an inventory event that this subscriber reads."""

    model_config = ConfigDict(alias_generator=to_camel)

    event_id: UUID
    event_type: str
    sku: str | None = None
    quantity_change: int
    transaction_type: str | None = None


def subscriber(bootstrap_servers: str, topic: str = TOPIC) -> FastStream:
    """The application."""
    broker = KafkaBroker(bootstrap_servers)
    sold: Counter[str] = Counter()
    seen: set[UUID] = set()

    @broker.subscriber(topic, group_id="example-faststream", auto_offset_reset="earliest")
    async def count(event: StockEvent) -> None:
        if event.event_type == "INVENTORY_UPDATE" and event.transaction_type == "SALE" and event.event_id not in seen:
            seen.add(event.event_id)
            sold[event.sku or ""] -= event.quantity_change
            print(f"{event.sku}: {sold[event.sku or '']} sold", flush=True)

    return FastStream(broker)


if __name__ == "__main__":
    asyncio.run(subscriber(*sys.argv[1:]).run())
