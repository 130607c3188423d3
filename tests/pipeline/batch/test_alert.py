"""The rules of low stock alerts: how bad, and when somebody is told."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from libs.events.analytics import Severity
from services.pipeline import alert
from services.pipeline.alert import (
    Alert,
    AlertResolved,
    Figures,
    ItemStock,
    Notice,
    Replenishment,
    Shortage,
    SnoozeNotAhead,
    SnoozeTooLong,
    Status,
)

NOW = datetime(2026, 1, 5, 6, tzinfo=UTC)
LATER = NOW + timedelta(hours=6)
ITEM = ("LAPTOP-001", "BERLIN-1")
ONE_WEEK = Replenishment(lead_time_days=7, review_days=1, service_level=0.95)


def a_stock(available: int, reorder_point: int | None = None, sold_per_day: float = 10, sd: float = 4) -> ItemStock:
    return ItemStock(*ITEM, available, reorder_point, sold_per_day, sd, demand_90=int(90 * sold_per_day))


def a_shortage(severity: Severity = Severity.WARNING, available: int = 5) -> Shortage:
    return Shortage(available, 10, 1.0, 5.0, 0.2, severity, "Order now")


def followed(live: Alert | None, found: Figures | None, now: datetime = LATER) -> Alert:
    changed = alert.follow(ITEM, live, found, now=now, new_id=UUID(int=1))
    assert changed is not None
    return changed


def a_told_alert(severity: Severity = Severity.WARNING) -> Alert:
    return alert.told(an_announced_alert(severity), "<first@example.org>")


def an_announced_alert(severity: Severity = Severity.WARNING) -> Alert:
    return alert.announced(followed(None, a_shortage(severity), NOW))


@pytest.mark.parametrize(
    ("stock", "severity"),
    [
        (a_stock(0), Severity.CRITICAL),
        (a_stock(0, reorder_point=3, sold_per_day=0), Severity.CRITICAL),
        (a_stock(79), Severity.ERROR),
        (a_stock(81), Severity.WARNING),
        (a_stock(98), Severity.WARNING),
        (a_stock(99), None),
        (a_stock(99, reorder_point=99), Severity.INFO),
        (a_stock(98, reorder_point=99), Severity.WARNING),
        (a_stock(0, sold_per_day=0), None),
        (a_stock(5, reorder_point=4, sold_per_day=0), None),
    ],
)
def test_severity_follows_the_risk_of_a_stockout(stock: ItemStock, severity: Severity | None) -> None:
    found = alert.shortages([stock], ONE_WEEK)

    assert [shortage.severity for shortage in found.values()] == [severity] * (severity is not None)


def test_the_action_says_how_much_is_needed_until_a_delivery() -> None:
    found = alert.shortages([a_stock(30)], ONE_WEEK)[ITEM]

    assert found.suggested_action.startswith("Order now: 30 available, 80 expected to be sold in the 8 days")
    assert found.days_of_supply == 3


def test_the_same_shortage_again_changes_nothing() -> None:
    assert alert.follow(ITEM, a_told_alert(), a_shortage(), now=LATER, new_id=UUID(int=2)) is None


def test_other_figures_are_kept_in_silence() -> None:
    changed = followed(a_told_alert(), a_shortage(available=4))

    assert (changed.quantity_available, changed.notice, changed.revision) == (4, None, 2)


def test_what_gets_worse_is_told_again_even_if_somebody_looks_after_it() -> None:
    taken_on = alert.acknowledge(a_told_alert(), "Ada", LATER)

    changed = followed(taken_on, a_shortage(Severity.CRITICAL))

    assert (changed.status, changed.notice) == (Status.OPEN, Notice.ESCALATED)


def test_back_and_forth_is_told_once() -> None:
    worse = alert.told(alert.announced(followed(a_told_alert(), a_shortage(Severity.ERROR))), "<second@example.org>")
    better = followed(worse, a_shortage(Severity.WARNING))

    again = followed(better, a_shortage(Severity.ERROR))

    assert (again.notice, again.event_due_at) == (None, None)
    assert again.thread_id == "<first@example.org>"


def test_what_is_empty_once_more_is_told_again() -> None:
    empty = alert.told(alert.announced(followed(a_told_alert(), a_shortage(Severity.CRITICAL))), "<second@example.org>")
    refilled = followed(empty, a_shortage(Severity.ERROR))

    again = followed(refilled, a_shortage(Severity.CRITICAL))

    assert (refilled.notice, refilled.event_due_at) == (None, None)
    assert (again.notice, again.event_due_at) == (Notice.ESCALATED, LATER)


def test_what_no_mail_could_tell_yet_is_announced_once_and_again_when_it_gets_worse() -> None:
    waiting = an_announced_alert()

    same = followed(waiting, a_shortage(available=4))
    worse = followed(alert.acknowledge(waiting, "Ada", LATER), a_shortage(Severity.CRITICAL))
    worst = followed(alert.announced(worse), a_shortage(Severity.CRITICAL, available=3))

    assert (same.event_due_at, same.notice) == (None, Notice.OPENED)
    assert (worse.event_due_at, worse.notice, worse.status) == (LATER, Notice.OPENED, Status.OPEN)
    assert (worst.event_due_at, worst.notice) == (None, Notice.OPENED)


def test_an_alert_that_was_snoozed_before_anybody_was_told_is_new_when_the_snooze_ends() -> None:
    snoozed = alert.snooze(an_announced_alert(), LATER, NOW)

    after = followed(snoozed, a_shortage(), LATER)

    assert (after.status, after.notice, after.event_due_at) == (Status.OPEN, Notice.OPENED, LATER)


def test_what_is_over_is_not_announced() -> None:
    opened = followed(None, a_shortage(), NOW)

    assert followed(opened, None).event_due_at is None
    assert alert.resolve(opened, "Ada", LATER).event_due_at is None


def test_a_snoozed_alert_is_silent_until_its_end() -> None:
    snoozed = alert.snooze(a_told_alert(), LATER, NOW)

    during = followed(snoozed, a_shortage(Severity.CRITICAL), LATER - timedelta(seconds=1))
    after = followed(snoozed, a_shortage(), LATER)

    assert (during.status, during.notice, during.severity) == (Status.SNOOZED, None, Severity.CRITICAL)
    assert (after.status, after.notice, after.snoozed_until) == (Status.OPEN, Notice.REMINDED, None)


def test_recovered_stock_resolves_and_is_told_of_if_the_shortage_was() -> None:
    assert followed(a_told_alert(), None).notice is Notice.RECOVERED
    assert followed(followed(None, a_shortage(), NOW), None).notice is None
    assert followed(a_told_alert(), None).resolved_by is None


def test_a_recovered_alert_tells_the_stock_of_now_unless_it_is_snoozed() -> None:
    [plenty] = alert.figures([a_stock(500, sold_per_day=2)], ONE_WEEK)

    recovered = followed(a_told_alert(), plenty)
    asleep = followed(alert.snooze(a_told_alert(), LATER + timedelta(days=1), NOW), plenty)

    assert (recovered.quantity_available, recovered.velocity_per_day, recovered.days_of_supply) == (500, 2, 250)
    assert (recovered.notice, asleep.notice) == (Notice.RECOVERED, None)
    assert asleep.status is Status.RESOLVED


def test_a_resolved_alert_is_over() -> None:
    resolved = alert.resolve(a_told_alert(), "Ada", LATER)

    assert (resolved.status, resolved.resolved_by, resolved.notice) == (Status.RESOLVED, "Ada", None)
    assert alert.resolve(resolved, "Bob", LATER) == resolved
    with pytest.raises(AlertResolved):
        alert.acknowledge(resolved, "Bob", LATER)
    with pytest.raises(AlertResolved):
        alert.snooze(resolved, LATER + timedelta(days=1), LATER)


def test_a_snooze_ends_in_the_future() -> None:
    with pytest.raises(SnoozeNotAhead):
        alert.snooze(a_told_alert(), LATER, LATER)
    with pytest.raises(SnoozeTooLong):
        alert.snooze(a_told_alert(), LATER + timedelta(days=367), LATER)


def test_acknowledging_twice_names_who_was_first() -> None:
    taken_on = alert.acknowledge(a_told_alert(), "Ada", LATER)

    assert alert.acknowledge(taken_on, "Bob", LATER + timedelta(hours=1)) == taken_on
    assert taken_on.acknowledged_by == "Ada"
