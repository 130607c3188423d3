"""Low stock alerts: when a stock item is short, how bad that is, and what becomes of its alert.

A stock item has at most one live alert. It is told of once when it opens, again only when it gets worse than what was
told, is empty once more or when its snooze ends, and once when the stock has recovered. An event tells other services
at once; a mail waits until somebody can be told.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import numpy as np

from libs.events.analytics import Severity
from services.pipeline.stockout import days_of_supply, stockout_risks

EVEN_CHANCE: Final = 0.5
LONGEST_SNOOZE: Final = timedelta(days=366)
_RANK: Final = {severity: rank for rank, severity in enumerate(Severity)}

StockItem = tuple[str, str]
"""A sku, and the warehouse that it lies in."""


class Status(StrEnum):
    """Where an alert stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    RESOLVED = "resolved"


class Notice(StrEnum):
    """What there is to tell about an alert."""

    OPENED = "opened"
    ESCALATED = "escalated"
    REMINDED = "reminded"
    RECOVERED = "recovered"


_OVER: Final[dict[str, Any]] = {"status": Status.RESOLVED, "snoozed_until": None, "event_due_at": None}


class UnknownAlert(Exception):
    """There is no such alert."""


class AlertResolved(Exception):
    """The alert is over: nothing can be done with it any more."""


class SnoozeNotAhead(Exception):
    """A snooze must end in the future."""


class SnoozeTooLong(Exception):
    """A snooze must end within a year: what is silent for longer is rather resolved."""


@dataclass(frozen=True, slots=True)
class Replenishment:
    """How fast stock can be replaced, and how safe it is meant to be."""

    lead_time_days: float
    review_days: float
    service_level: float
    """The probability that is aimed at, that stock lasts until the delivery."""

    @property
    def protection_days(self) -> float:
        """How long what is available must last, from one look at the stock on: review period and lead time."""
        return self.lead_time_days + self.review_days


@dataclass(frozen=True, slots=True)
class ItemStock:
    """What is left of a stock item, and how it sells."""

    sku: str
    warehouse_id: str
    quantity_available: int
    reorder_point: int | None
    velocity_per_day: float
    """Of the last 30 days, as the standard deviation of one day's demand."""
    sd_daily_demand: float
    demand_90: int

    @property
    def item(self) -> StockItem:
        """Which one it is."""
        return self.sku, self.warehouse_id


@dataclass(frozen=True, slots=True)
class Figures:
    """What is left of a stock item, and how likely it is to run out."""

    quantity_available: int
    reorder_point: int | None
    velocity_per_day: float
    days_of_supply: float | None
    stockout_risk: float


@dataclass(frozen=True, slots=True)
class Shortage(Figures):
    """How short a stock item is."""

    severity: Severity
    suggested_action: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as it is stored."""

    alert_id: UUID
    sku: str
    warehouse_id: str
    status: Status
    severity: Severity
    quantity_available: int
    reorder_point: int | None
    velocity_per_day: float
    days_of_supply: float | None
    stockout_risk: float
    suggested_action: str
    revision: int
    opened_at: datetime
    updated_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    snoozed_until: datetime | None = None
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    event_due_at: datetime | None = None
    """Since when there is something to tell other services."""
    announced_severity: Severity | None = None
    """The worst that an event has told since the stock item was last empty."""
    notice: Notice | None = None
    """What there is to tell people."""
    told_severity: Severity | None = None
    """The worst that a mail has told since the stock item was last empty."""
    thread_id: str | None = None


def shortages(stocks: Sequence[ItemStock], replenishment: Replenishment) -> dict[StockItem, Shortage]:
    """How short those stock items are that are low or at risk.

    Severity, with P1 the service level that is aimed at and the risk that of a stockout over review period + lead time:

    - critical: nothing is available of an item that sells or has a reorder point
    - error: risk > 1/2. Less is available than is expected to be sold: the safety stock is used up
    - warning: risk > 1 - P1. The safety stock will probably be drawn on
    - info: at or below the reorder point, and yet likely to last

    P1 is the cycle service level of Silver, Pyke & Thomas (2017), ch. 6: safety stock is what makes the risk 1 - P1,
    and without any it is 1/2.
    """
    short = {}
    for stock, found in zip(stocks, figures(stocks, replenishment), strict=True):
        severity = _severity(stock, found.stockout_risk, 1 - replenishment.service_level)
        if severity is not None:
            action = _suggested_action(stock, replenishment)
            short[stock.item] = Shortage(**asdict(found), severity=severity, suggested_action=action)
    return short


def figures(stocks: Sequence[ItemStock], replenishment: Replenishment) -> list[Figures]:
    """What alerts tell of each of these stock items, short or not, as of what is available: on hand - reserved."""
    available, velocity, sd_daily = (
        np.array([getattr(stock, name) for stock in stocks], np.float64)
        for name in ("quantity_available", "velocity_per_day", "sd_daily_demand")
    )
    risks = stockout_risks(available, velocity, sd_daily, replenishment.protection_days)
    return [
        Figures(
            quantity_available=stock.quantity_available,
            reorder_point=stock.reorder_point,
            velocity_per_day=stock.velocity_per_day,
            days_of_supply=days_of_supply(stock.quantity_available, stock.velocity_per_day),
            stockout_risk=risk,
        )
        for stock, risk in zip(stocks, risks.tolist(), strict=True)
    ]


def follow(item: StockItem, live: Alert | None, found: Figures | None, *, now: datetime, new_id: UUID) -> Alert | None:
    """The alert of a stock item after a check found a Shortage, other figures or no stock item; None for no change.

    `new_id` becomes the id of the alert if one is opened.
    """
    if not isinstance(found, Shortage):
        return live and _recover(live, found, now)
    if live is None:
        return _open(item, found, now, new_id)
    changes = _news(live, found, now)
    state = asdict(found)
    if not changes and all(getattr(live, name) == figure for name, figure in state.items()):
        return None
    return _revise(live, now, **state, **changes)


def severity_rank(severity: Severity) -> int:
    """The worse, the larger."""
    return _RANK[severity]


def announced(alert: Alert) -> Alert:
    """The alert after its event was published."""
    return replace(alert, event_due_at=None, announced_severity=_worst(alert, alert.announced_severity))


def told(alert: Alert, thread_id: str) -> Alert:
    """The alert after its notice was mailed, in the mail thread that it belongs to from now on."""
    worst = _worst(alert, alert.told_severity)
    return replace(alert, notice=None, told_severity=worst, thread_id=alert.thread_id or thread_id)


def acknowledge(alert: Alert, by: str, now: datetime) -> Alert:
    """Somebody looks after it: it is silent unless it gets worse. Raises AlertResolved."""
    _check_live(alert)
    if alert.status is Status.ACKNOWLEDGED:
        return alert
    return _revise(alert, now, status=Status.ACKNOWLEDGED, acknowledged_at=now, acknowledged_by=by, snoozed_until=None)


def snooze(alert: Alert, until: datetime, now: datetime) -> Alert:
    """Silent until then, whatever happens, even if the stock recovers; told of again by the first check after it.

    Raises AlertResolved, SnoozeNotAhead and SnoozeTooLong.
    """
    _check_live(alert)
    if until <= now:
        raise SnoozeNotAhead("until must be an instant in the future.")
    if until > now + LONGEST_SNOOZE:
        raise SnoozeTooLong(f"until must be at most {LONGEST_SNOOZE.days} days ahead.")
    return _revise(alert, now, status=Status.SNOOZED, snoozed_until=until)


def resolve(alert: Alert, by: str, now: datetime) -> Alert:
    """Over, as somebody says. While the stock item is short, the next check opens another one."""
    if alert.status is Status.RESOLVED:
        return alert
    return _revise(alert, now, **_OVER, resolved_at=now, resolved_by=by, notice=None)


def _severity(stock: ItemStock, risk: float, accepted_risk: float) -> Severity | None:
    is_low = stock.reorder_point is not None and stock.quantity_available <= stock.reorder_point
    if stock.quantity_available <= 0 and (is_low or stock.demand_90 > 0):
        return Severity.CRITICAL
    if risk > EVEN_CHANCE:
        return Severity.ERROR
    if risk > accepted_risk:
        return Severity.WARNING
    return Severity.INFO if is_low else None


def _suggested_action(stock: ItemStock, replenishment: Replenishment) -> str:
    days = replenishment.protection_days
    expected = max(stock.velocity_per_day * days, 0.0)
    return (
        f"Order now: {stock.quantity_available} available, {expected:.0f} expected to be sold in the {days:g} days "
        "until a delivery can arrive."
    )


def _open(item: StockItem, found: Shortage, now: datetime, new_id: UUID) -> Alert:
    return Alert(
        alert_id=new_id,
        sku=item[0],
        warehouse_id=item[1],
        status=Status.OPEN,
        revision=1,
        opened_at=now,
        updated_at=now,
        event_due_at=now,
        notice=Notice.OPENED,
        **asdict(found),
    )


def _news(live: Alert, found: Shortage, now: datetime) -> dict[str, Any]:
    """What changes besides the figures: an alert that has to be told of again is open again."""
    if live.snoozed_until is not None and live.snoozed_until > now:
        return {}
    if live.snoozed_until is not None:
        return {
            "status": Status.OPEN,
            "snoozed_until": None,
            "event_due_at": live.event_due_at or now,
            "notice": live.notice or Notice.REMINDED,
        }
    # Back and forth between lesser severities is told once; but what was empty, and is again, is news.
    told = {"announced_severity": live.announced_severity, "told_severity": live.told_severity}
    is_refilled = live.severity is Severity.CRITICAL and found.severity is not Severity.CRITICAL
    better = {name: found.severity for name, known in told.items() if is_refilled and known is not None}
    worse: dict[str, Any] = {}
    if live.event_due_at is None and _is_worse(found.severity, live.announced_severity):
        worse["event_due_at"] = now
    if live.notice is None and _is_worse(found.severity, live.told_severity):
        worse["notice"] = Notice.ESCALATED
    return {**better, **({"status": Status.OPEN, **worse} if worse else {})}


def _is_worse(severity: Severity, known: Severity | None) -> bool:
    return known is not None and _RANK[severity] > _RANK[known]


def _worst(alert: Alert, known: Severity | None) -> Severity:
    return max(alert.severity, known or alert.severity, key=_RANK.__getitem__)


def _recover(live: Alert, found: Figures | None, now: datetime) -> Alert:
    is_asleep = live.snoozed_until is not None and live.snoozed_until > now
    # Nobody is told of the end of what nobody was told of.
    notice = None if is_asleep or live.notice is Notice.OPENED else Notice.RECOVERED
    state = {} if found is None else asdict(found)
    return _revise(live, now, **state, **_OVER, resolved_at=now, notice=notice)


def _check_live(alert: Alert) -> None:
    if alert.resolved_at:
        raise AlertResolved(f"Alert {alert.alert_id} was resolved at {alert.resolved_at.isoformat()}.")


def _revise(alert: Alert, now: datetime, **changes: Any) -> Alert:
    return replace(alert, revision=alert.revision + 1, updated_at=now, **changes)
