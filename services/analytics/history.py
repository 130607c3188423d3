"""What history keeps of each event: documents whose `_id` makes writing them twice the same as writing them once.

Instants are kept to the millisecond, as MongoDB does; money is exact.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from libs.events.analytics import (
    DataQualityAlert,
    InventoryProcessed,
    LowStockAlert,
    MetricsCalculated,
    TrendAnalyzed,
    VelocityCalculated,
)
from libs.events.envelope import BaseEvent, Event
from libs.events.inventory import ExternalInventoryUpdate, InventoryUpdate, StockLevelChange, TransactionPosted
from libs.events.reorder import PurchaseOrderEvent, ReorderRecommendation, ReorderTriggered

Document = dict[str, Any]
Metric = VelocityCalculated | TrendAnalyzed | MetricsCalculated

METRIC_NAMES = {
    "VELOCITY_CALCULATED": "velocity",
    "TREND_ANALYZED": "trend",
    "METRICS_CALCULATED": "metrics",
}
KEPT = (
    TransactionPosted,
    VelocityCalculated,
    TrendAnalyzed,
    MetricsCalculated,
    ReorderTriggered,
    ReorderRecommendation,
    PurchaseOrderEvent,
)
NOT_KEPT = (
    InventoryUpdate,
    StockLevelChange,
    InventoryProcessed,
    LowStockAlert,
    DataQualityAlert,
    ExternalInventoryUpdate,
)
"""Events whose content the pipeline keeps in Postgres and publishes as views."""


@dataclass(slots=True)
class Documents:
    """Documents to write, by collection."""

    transactions: list[Document] = field(default_factory=list)
    reorder_events: list[Document] = field(default_factory=list)
    metrics: list[Document] = field(default_factory=list)


def documents(events: Iterable[BaseEvent]) -> Documents:
    """What to write for these events; of several revisions of one metric only the largest."""
    kept = Documents()
    latest: dict[str, Document] = {}
    for event in events:
        match event:
            case TransactionPosted():
                kept.transactions.append(transaction_document(event))
            case VelocityCalculated() | TrendAnalyzed() | MetricsCalculated():
                metric = metric_document(event)
                if metric["_id"] not in latest or latest[metric["_id"]]["revision"] < metric["revision"]:
                    latest[metric["_id"]] = metric
            case ReorderTriggered() | ReorderRecommendation() | PurchaseOrderEvent():
                kept.reorder_events.append(event_document(event))
    kept.metrics.extend(latest.values())
    return kept


def transaction_document(event: TransactionPosted) -> Document:
    """A posted stock transaction with all its lines."""
    return {
        "_id": str(event.event_id),
        "transactionId": str(event.transaction_id),
        "transactionType": event.transaction_type.value,
        "referenceId": event.reference_id,
        "notes": event.notes,
        "actor": event.actor,
        "source": event.source,
        "occurredAt": event.timestamp.astimezone(UTC),
        "recordedAt": event.recorded_at.astimezone(UTC),
        "reversesId": str(event.reverses_id) if event.reverses_id else None,
        "quantityChange": event.quantity_change,
        "lineCount": event.line_count,
        "lines": [line.model_dump(by_alias=True) for line in event.lines],
    }


def metric_document(event: Metric) -> Document:
    """The metric of one stock item as of one day, as last calculated."""
    metric, as_of = METRIC_NAMES[event.event_type], event.as_of.isoformat()
    return {
        **_figures(event),
        "_id": "|".join(map(_escaped, (metric, event.sku, event.warehouse_id, as_of))),
        "metric": metric,
        "sku": event.sku,
        "warehouseId": event.warehouse_id,
        "asOf": as_of,
        "revision": event.revision,
        "eventId": str(event.event_id),
        "calculatedAt": event.recorded_at.astimezone(UTC),
    }


def event_document(event: Event) -> Document:
    """An event as it was sent, under its id."""
    content = event.model_dump(by_alias=True, mode="json", exclude={"event_id", "timestamp", "recorded_at"})
    instants: dict[str, datetime] = {
        "timestamp": event.timestamp.astimezone(UTC),
        "recordedAt": event.recorded_at.astimezone(UTC),
    }
    return {"_id": str(event.event_id), **content, **instants}


def _figures(event: Metric) -> Document:
    """What the event adds to the fields that every metric has."""
    envelope = set(Event.model_fields) | {"as_of", "revision"}
    return event.model_dump(by_alias=True, mode="json", exclude=envelope)


def _escaped(part: str) -> str:
    """A part of an id that may stand between bars."""
    return part.replace("%", "%25").replace("|", "%7C")
