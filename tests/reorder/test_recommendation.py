"""The life of a recommendation."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from services.reorder import recommendation
from services.reorder.recommendation import Change, Outcome, Recommendation, Status, follow
from services.reorder.replenishment import Advice
from tests.reorder.factories import NOW, WIDGET

ID = UUID("00000000-0000-4000-8000-00000000000a")
LATER = NOW + timedelta(hours=1)


def advice(quantity: int = 40, position: int = 10) -> Advice:
    return Advice(quantity, position, 10, {"formula": "min_max"})


def opened() -> Recommendation:
    change = follow(WIDGET, None, advice(), now=NOW, new_id=ID)
    assert change is not None
    return change.recommendation


def follow_up(live: Recommendation, fresh: Advice | None) -> Change | None:
    return follow(WIDGET, live, fresh, now=LATER, new_id=ID)


def test_a_crossing_opens_a_recommendation() -> None:
    change = follow(WIDGET, None, advice(), now=NOW, new_id=ID)

    assert change is not None
    assert change.outcome == Outcome.OPENED
    assert change.recommendation.status == Status.OPEN
    assert change.recommendation.revision == 1


def test_the_same_advice_again_changes_nothing() -> None:
    assert follow_up(opened(), advice()) is None


def test_another_figure_is_a_new_revision() -> None:
    change = follow_up(opened(), advice(quantity=45, position=5))

    assert change is not None
    assert change.outcome == Outcome.CHANGED
    assert (change.recommendation.recommended_quantity, change.recommendation.revision) == (45, 2)


def test_a_position_above_the_reorder_point_withdraws_the_recommendation() -> None:
    change = follow_up(opened(), None)

    assert change is not None
    assert change.outcome == Outcome.CLOSED
    assert change.recommendation.status == Status.WITHDRAWN
    assert change.recommendation.closed_at == LATER


def test_a_dismissed_crossing_stays_silent_until_it_is_over() -> None:
    dismissed = recommendation.dismiss(opened(), NOW)

    assert follow_up(dismissed, advice(quantity=45, position=5)) is None
    over = follow_up(dismissed, None)
    assert over is not None
    assert over.recommendation.status == Status.DISMISSED
    assert over.recommendation.closed_at == LATER


def test_a_snoozed_recommendation_is_silent_until_its_instant() -> None:
    snoozed = recommendation.snooze(opened(), LATER + timedelta(seconds=1), NOW)

    assert follow_up(snoozed, advice(quantity=45, position=5)) is None


def test_an_ended_snooze_opens_the_recommendation_again_even_with_the_same_figure() -> None:
    snoozed = recommendation.snooze(opened(), LATER, NOW)
    change = follow_up(snoozed, advice())

    assert change is not None
    assert change.outcome == Outcome.CHANGED
    assert change.recommendation.status == Status.OPEN
    assert change.recommendation.snoozed_until is None


def test_a_closed_recommendation_cannot_be_dismissed() -> None:
    closed = replace(opened(), closed_at=NOW)

    with pytest.raises(recommendation.RecommendationClosed):
        recommendation.dismiss(closed, LATER)


@pytest.mark.parametrize("until", [None, NOW])
def test_a_snooze_must_end_in_the_future(until: None) -> None:
    with pytest.raises(recommendation.SnoozeNotAhead):
        recommendation.snooze(opened(), until, NOW)
