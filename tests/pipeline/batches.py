"""Batches as the runner hands them to a sink."""

from collections.abc import Sequence

from aiokafka import ConsumerRecord

from libs.events.decoding import Received
from libs.events.envelope import BaseEvent
from libs.events.sink import PartitionBatch

TOPIC = "inventory-events"


def a_batch(
    events: Sequence[BaseEvent], *, partition: int = 0, first_offset: int = 0, epoch: int = 1, topic: str = TOPIC
) -> PartitionBatch:
    """Consecutive records of one partition."""
    received = [
        Received(first_offset + place, event, _record(event, topic, partition, first_offset + place))
        for place, event in enumerate(events)
    ]
    anchor = str(events[-1].event_id) if events else None
    return PartitionBatch(topic, partition, epoch, received, [], first_offset + len(events), anchor)


def _record(event: BaseEvent, topic: str, partition: int, offset: int) -> ConsumerRecord:
    value = event.model_dump_json().encode()
    return ConsumerRecord(topic, partition, offset, 0, 0, b"", value, None, 0, len(value), ())
