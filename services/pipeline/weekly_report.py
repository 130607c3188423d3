"""The weekly summary as a page and as a mail."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from markupsafe import Markup

from services.pipeline.chart import Chart, bar_chart
from services.pipeline.mail import Attachment, Mail, message_id
from services.pipeline.rendering import render
from services.pipeline.weekly_summary import WeeklySummary, change


@dataclass(frozen=True, slots=True)
class Page:
    """An HTML document, and the Content-Security-Policy that it is to be served under."""

    html: str
    policy: str


def page(summary: WeeklySummary, generated_at: datetime) -> Page:
    """The report as a page that loads nothing and runs nothing: its policy allows its own style sheet only."""
    style = render("report.css")
    html = render(
        "weekly_report.html",
        summary=summary,
        change=change,
        charts=charts(summary),
        generated_at=generated_at,
        style=Markup(style),
    )
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Page(html, policy)


def charts(summary: WeeklySummary) -> list[Chart]:
    """Each figure of the week above that of the week before."""
    return [
        bar_chart(
            "Units sold per day", [(f"{day.date:%a %d %b}", (day.demand, day.demand_before)) for day in summary.days]
        ),
        bar_chart(
            "Top movers, units sold", [(mover.sku, (mover.demand, mover.demand_before)) for mover in summary.top_movers]
        ),
        bar_chart(
            "Empty stock items at the end of the day",
            [(f"{day.date:%a %d %b}", (day.stockouts, day.stockouts_before)) for day in summary.days],
        ),
        bar_chart(
            "Stock value at the end of the week",
            [
                (warehouse.warehouse_id, (float(warehouse.stock_value), float(warehouse.stock_value_before)))
                for warehouse in summary.warehouses
            ],
        ),
    ]


def mail(summary: WeeklySummary, html: str, *, sender: str, recipients: Sequence[str], now: datetime) -> Mail:
    """The summary in short, with the page attached. The mail of a week has one Message-ID, for ever."""
    values = {"summary": summary, "change": change}
    return Mail(
        message_id=message_id(f"weekly-summary.{summary.week}", sender),
        sender=sender,
        recipients=recipients,
        subject=f"Week of {summary.week}: {summary.totals.demand:,} units sold",
        text=render("weekly_mail.txt", **values),
        html=render("weekly_mail.html", **values),
        date=now,
        attachment=Attachment(f"weekly-summary-{summary.week}.html", html),
    )
