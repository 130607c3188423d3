"""The event as a FastStream application declares it."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from benchmarks.peers.sums import Sums


class InventoryUpdate(BaseModel):
    """The fields that the job needs, and the event's id."""

    model_config = ConfigDict(alias_generator=to_camel)

    event_id: UUID
    sku: str
    warehouse_id: str
    sequence: int
    quantity_change: int
    quantity_on_hand: int
    timestamp: datetime
    transaction_type: str
    unit_price: Decimal


def add(sums: Sums, event: InventoryUpdate) -> None:
    """Count one event."""
    sums.add(
        event.sku,
        event.warehouse_id,
        event.sequence,
        event.quantity_on_hand,
        event.timestamp.date(),
        event.transaction_type,
        event.quantity_change,
        event.unit_price,
    )
