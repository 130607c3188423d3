"""The life of a recommendation: opened by a crossing of the reorder point, closed when the position is above it again.

A stock item has at most one live recommendation. A dismissed one stays live, silent, until the crossing is over:
so nobody is told again about the crossing that they have dismissed.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from services.reorder.replenishment import Advice


class StockItem(NamedTuple):
    """A sku in a warehouse. Sorts in the order in which rows are locked."""

    sku: str
    warehouse_id: str


class Status(StrEnum):
    """Where a recommendation stands."""

    OPEN = "open"
    SNOOZED = "snoozed"
    DISMISSED = "dismissed"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to order for one stock item, as last figured out."""

    recommendation_id: UUID
    item: StockItem
    status: Status
    recommended_quantity: int
    inventory_position: int
    reorder_point: int
    explanation: dict[str, Any]
    revision: int
    created_at: datetime
    updated_at: datetime
    snoozed_until: datetime | None = None
    closed_at: datetime | None = None


class Outcome(StrEnum):
    """What an evaluation did to a recommendation."""

    OPENED = "opened"
    CHANGED = "changed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Change:
    """A recommendation as it is after an evaluation, and what became of it."""

    outcome: Outcome
    recommendation: Recommendation


class RecommendationClosed(Exception):
    """The recommendation is over: nothing can be done with it any more."""


class SnoozeNotAhead(Exception):
    """A snooze must end in the future."""


def follow(
    item: StockItem, live: Recommendation | None, advice: Advice | None, *, now: datetime, new_id: UUID
) -> Change | None:
    """What fresh advice does to the live recommendation of a stock item; None when it changes nothing.

    `new_id` becomes the id of the recommendation if one is opened.
    """
    if advice is None:
        return Change(Outcome.CLOSED, _close(live, now)) if live else None
    if live is None:
        return Change(Outcome.OPENED, _open(item, advice, now, new_id))
    if _is_silent(live, now) or (live.status == Status.OPEN and _figures(live) == _figures(advice)):
        return None
    return Change(Outcome.CHANGED, _refigure(live, advice, now))


def dismiss(recommendation: Recommendation, now: datetime) -> Recommendation:
    """Silence the recommendation until the position has been above the reorder point again."""
    _check_live(recommendation)
    return _revise(recommendation, now, status=Status.DISMISSED, snoozed_until=None)


def snooze(recommendation: Recommendation, until: datetime | None, now: datetime) -> Recommendation:
    """Silence the recommendation until an instant, after which the next evaluation opens it again."""
    _check_live(recommendation)
    if until is None or until <= now:
        raise SnoozeNotAhead("snoozedUntil must be an instant in the future.")
    return _revise(recommendation, now, status=Status.SNOOZED, snoozed_until=until)


def _check_live(recommendation: Recommendation) -> None:
    if recommendation.closed_at:
        raise RecommendationClosed(
            f"Recommendation {recommendation.recommendation_id} was closed at {recommendation.closed_at.isoformat()}."
        )


def _is_silent(live: Recommendation, now: datetime) -> bool:
    asleep = live.snoozed_until is not None and live.snoozed_until > now
    return live.status == Status.DISMISSED or asleep


def _figures(source: Recommendation | Advice) -> tuple[int, int, int]:
    return source.recommended_quantity, source.inventory_position, source.reorder_point


def _open(item: StockItem, advice: Advice, now: datetime, new_id: UUID) -> Recommendation:
    return Recommendation(
        recommendation_id=new_id,
        item=item,
        status=Status.OPEN,
        recommended_quantity=advice.recommended_quantity,
        inventory_position=advice.inventory_position,
        reorder_point=advice.reorder_point,
        explanation=advice.explanation,
        revision=1,
        created_at=now,
        updated_at=now,
    )


def _refigure(live: Recommendation, advice: Advice, now: datetime) -> Recommendation:
    return _revise(
        live,
        now,
        status=Status.OPEN,
        snoozed_until=None,
        recommended_quantity=advice.recommended_quantity,
        inventory_position=advice.inventory_position,
        reorder_point=advice.reorder_point,
        explanation=advice.explanation,
    )


def _close(live: Recommendation, now: datetime) -> Recommendation:
    status = live.status if live.status == Status.DISMISSED else Status.WITHDRAWN
    return _revise(live, now, status=status, snoozed_until=None, closed_at=now)


def _revise(recommendation: Recommendation, now: datetime, **changes: Any) -> Recommendation:
    return replace(recommendation, revision=recommendation.revision + 1, updated_at=now, **changes)
