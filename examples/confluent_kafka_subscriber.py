"""A subscriber in plain confluent-kafka: prints every sale as it happens, once.

    pip install confluent-kafka
    python examples/confluent_kafka_subscriber.py localhost:9092

Kafka delivers at least once: a restart may repeat events. This one remembers the last `sequence` of each stock item,
which is enough because events of a stock item keep their order.
"""

import json
import signal
import sys
from typing import Any

from confluent_kafka import Consumer

TOPIC = "inventory-events"


def is_new(event: dict[str, Any], last_sequence: dict[tuple[str, str], int]) -> bool:
    """Whether a ledger event is seen for the first time."""
    item = (event["warehouseId"], event["sku"])
    if event["sequence"] <= last_sequence.get(item, 0):
        return False
    last_sequence[item] = event["sequence"]
    return True


def main(bootstrap_servers: str, topic: str = TOPIC) -> None:
    """Print sales until SIGTERM or Ctrl-C."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    consumer = Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": "example-confluent", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    last_sequence: dict[tuple[str, str], int] = {}
    while not stopping:
        message = consumer.poll(0.2)
        if message is None or message.error():
            continue
        event = json.loads(message.value() or b"{}")
        if event.get("transactionType") == "SALE" and event.get("sequence") and is_new(event, last_sequence):
            print(
                f"{event['timestamp']} {-event['quantityChange']} x {event['sku']} in {event['warehouseId']}",
                flush=True,
            )
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
