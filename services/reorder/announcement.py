"""The events that tell other services about recommendations."""

from collections.abc import Iterator

from libs.events.envelope import document_event_id
from libs.events.reorder import ReorderRecommendation, ReorderTriggered
from services.reorder.recommendation import Change, Outcome, Recommendation

SOURCE = "reorder"

Announcement = ReorderTriggered | ReorderRecommendation


def announce(change: Change) -> Iterator[Announcement]:
    """REORDER_TRIGGERED once per crossing of the reorder point, REORDER_RECOMMENDATION for each new figure."""
    if change.outcome == Outcome.CLOSED:
        return
    if change.outcome == Outcome.OPENED:
        yield _event(ReorderTriggered, "REORDER_TRIGGERED", change.recommendation)
    yield _event(ReorderRecommendation, "REORDER_RECOMMENDATION", change.recommendation)


def announce_again(told: Recommendation) -> Announcement:
    """The latest event about an open recommendation, the very same one, for when the broker has lost it."""
    return _event(ReorderRecommendation, "REORDER_RECOMMENDATION", told)


def _event(kind: type[Announcement], event_type: str, told: Recommendation) -> Announcement:
    return kind(
        event_id=document_event_id(event_type, told.recommendation_id, told.revision),
        sku=told.item.sku,
        warehouse_id=told.item.warehouse_id,
        timestamp=told.updated_at,
        recorded_at=told.updated_at,
        source=SOURCE,
        recommendation_id=told.recommendation_id,
        revision=told.revision,
        recommended_quantity=told.recommended_quantity,
        inventory_position=told.inventory_position,
        reorder_point=told.reorder_point,
        supplier_id=None,
        explanation=told.explanation,
    )
