"""Events for the tests, with defaults for what does not matter."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from aiokafka import ConsumerRecord

from libs.events.analytics import DemandWindow, VelocityCalculated
from libs.events.decoding import Received
from libs.events.envelope import Event, document_event_id, stock_item_event_id
from libs.events.inventory import TransactionLine, TransactionPosted, TransactionType
from libs.events.sink import PartitionBatch

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NAMESPACE = UUID("00000000-0000-4000-8000-000000000001")


def a_line(number: int = 1, **facts: Any) -> TransactionLine:
    defaults: dict[str, Any] = {
        "sku": "WIDGET",
        "warehouse_id": "United Kingdom",
        "quantity_change": -2,
        "sequence": number,
        "unit_price": Decimal("1.25"),
    }
    return TransactionLine(line_no=number, **(defaults | facts))


def a_transaction(
    name: str, *lines: TransactionLine, occurred_at: datetime = NOW, reference_id: str | None = None
) -> TransactionPosted:
    lines = lines or (a_line(),)
    transaction_id = uuid5(NAMESPACE, name)
    return TransactionPosted(
        event_id=document_event_id("TRANSACTION", transaction_id, 1),
        quantity_change=sum(line.quantity_change for line in lines),
        timestamp=occurred_at,
        recorded_at=NOW,
        source="api",
        reference_id=reference_id,
        transaction_id=transaction_id,
        transaction_type=TransactionType.SALE,
        actor="tests",
        line_count=len(lines),
        lines=list(lines),
    )


def a_velocity(per_day: float, *, revision: int, sku: str = "WIDGET") -> VelocityCalculated:
    return VelocityCalculated(
        event_id=stock_item_event_id("VELOCITY_CALCULATED", "BERLIN", sku, revision),
        sku=sku,
        warehouse_id="BERLIN",
        timestamp=NOW,
        recorded_at=NOW,
        source="pipeline",
        revision=revision,
        as_of=NOW.date(),
        windows=[DemandWindow(days=7, demand=round(7 * per_day), velocity_per_day=per_day, sd_daily_demand=0.5)],
    )


def a_record(event: Event, offset: int, topic: str) -> ConsumerRecord:
    key, value = event.key.encode(), event.model_dump_json().encode()
    return ConsumerRecord(topic, 0, offset, 1772366400000, 0, key, value, None, len(key), len(value), [])


def a_batch(*events: Event, epoch: int, first_offset: int = 0, topic: str = "inventory-events") -> PartitionBatch:
    offsets = range(first_offset, first_offset + len(events))
    records = [a_record(event, offset, topic) for event, offset in zip(events, offsets, strict=True)]
    received = [Received(record.offset, event, record) for event, record in zip(events, records, strict=True)]
    return PartitionBatch(topic, 0, epoch, received, [], offsets.stop, "anchor")
