"""Digests: one mail per circle of recipients, with what there is to tell of alerts, grouped by warehouse."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from uuid import UUID

from services.pipeline.alert import Alert, Notice, severity_rank
from services.pipeline.mail import Mail, message_id
from services.pipeline.rendering import one_line, render

MOST_REFERENCES = 20


@dataclass(frozen=True, slots=True)
class Circle:
    """Who hears of which warehouse."""

    everybody: Sequence[str]
    by_warehouse: Mapping[str, Sequence[str]]

    def of(self, warehouse_id: str) -> tuple[str, ...]:
        """Who hears of this warehouse: its own recipients, else everybody."""
        return tuple(sorted(set(self.by_warehouse.get(warehouse_id, self.everybody))))

    @property
    def is_general(self) -> bool:
        """Whether somebody hears of a warehouse that is no exception."""
        return bool(self.everybody)

    @property
    def exceptions(self) -> list[str]:
        """The warehouses that nobody hears of though somebody does of others, or the other way round."""
        return sorted(name for name, own in self.by_warehouse.items() if bool(own) != self.is_general)


@dataclass(frozen=True, slots=True)
class Digest:
    """A mail, and the alerts that it tells of."""

    mail: Mail
    alerts: Sequence[Alert]


def digests(
    alerts: Sequence[Alert],
    circle: Circle,
    *,
    names: Mapping[str, str],
    sender: str,
    digest_id: UUID,
    now: datetime,
) -> list[Digest]:
    """The mails that tell of these alerts, each alert in one of them. Their warehouses all have recipients.

    A digest about alerts that were told of before is a reply to the mails that did.
    """
    by_recipients: dict[tuple[str, ...], list[Alert]] = defaultdict(list)
    for alert in alerts:
        by_recipients[circle.of(alert.warehouse_id)].append(alert)
    return [
        Digest(_mail(told, recipients, names, sender, f"alerts.{digest_id}.{number}", now), told)
        for number, (recipients, told) in enumerate(sorted(by_recipients.items()))
    ]


def _mail(
    alerts: Sequence[Alert],
    recipients: Sequence[str],
    names: Mapping[str, str],
    sender: str,
    name: str,
    now: datetime,
) -> Mail:
    threads = [thread for thread in dict.fromkeys(alert.thread_id for alert in alerts) if thread is not None]
    values = {"summary": _summary(alerts), "warehouses": list(_by_warehouse(alerts)), "names": names, "now": now}
    return Mail(
        message_id=message_id(name, sender),
        sender=sender,
        recipients=recipients,
        subject=one_line(f"{'Re: ' if threads else ''}Low stock: {_summary(alerts)}"),
        text=render("low_stock_digest.txt", **values),
        html=render("low_stock_digest.html", **values),
        date=now,
        references=threads[:MOST_REFERENCES],
    )


def _by_warehouse(alerts: Sequence[Alert]) -> Iterator[tuple[str, list[tuple[str, list[Alert]]]]]:
    """Warehouse -> heading -> alerts, the worst first."""
    headings = {
        Notice.OPENED: "New",
        Notice.ESCALATED: "Worse than before",
        Notice.REMINDED: "Snoozed until now",
        Notice.RECOVERED: "Recovered",
    }
    ordered = sorted(alerts, key=lambda alert: (alert.warehouse_id, -severity_rank(alert.severity), alert.sku))
    for warehouse_id, its_alerts in groupby(ordered, key=attrgetter("warehouse_id")):
        told = list(its_alerts)
        groups = [(text, [alert for alert in told if alert.notice is notice]) for notice, text in headings.items()]
        yield warehouse_id, [(text, group) for text, group in groups if group]


def _summary(alerts: Sequence[Alert]) -> str:
    """Such as "3 alerts, 1 critical, in BERLIN-1, HAMBURG-1"."""
    short = [alert for alert in alerts if alert.notice is not Notice.RECOVERED]
    warehouses = sorted({alert.warehouse_id for alert in alerts})
    parts = [_count(len(short), "alert")] if short else []
    if critical := sum(alert.severity == "critical" for alert in short):
        parts.append(f"{critical} critical")
    if len(short) < len(alerts):
        parts.append(f"{len(alerts) - len(short)} recovered")
    where = ", ".join(warehouses[:3]) + (f" and {len(warehouses) - 3} more" if len(warehouses) > 3 else "")
    return f"{', '.join(parts)}, in {where}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
