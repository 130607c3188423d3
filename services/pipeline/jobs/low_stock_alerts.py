"""`low_stock_alerts`: which stock items are short, and who has to know.

Both steps look at the stock and the alerts as they are now, whatever the interval: run again, they find nothing new.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from libs.chassis.database import acquired
from libs.events import outbox
from libs.events.failpoints import failpoint
from services.pipeline import alert, alert_queries, mail_queries
from services.pipeline.alert import Alert, ItemStock, Replenishment, Shortage, StockItem
from services.pipeline.alert_digest import Circle, Digest, digests
from services.pipeline.alert_events import low_stock_alert
from services.pipeline.jobs import fence
from services.pipeline.jobs.step import Context, StepResult

CHUNK: Final = 5_000
MOST_EVENTS: Final = 500
MOST_IN_A_DIGEST: Final = 500


async def check_low_stock(context: Context) -> StepResult:
    """Open, update and resolve alerts of items that are low, or likely to run out before a delivery."""
    replenishment = Replenishment(
        lead_time_days=context.settings.stockout_lead_time_days,
        review_days=context.settings.stockout_review_days,
        service_level=context.settings.stockout_service_level,
    )
    checked, short = await _shortages(context, replenishment)
    async with fence.transaction(context) as connection:
        live = await alert_queries.lock_live(connection)
        over = await alert_queries.stock_of(connection, live.keys() - short.keys())
        changed = await asyncio.to_thread(_follow, live, short, over, replenishment)
        for start in range(0, len(changed), CHUNK):
            await alert_queries.save(connection, changed[start : start + CHUNK])
            failpoint("batch.alerts.followed")
    severities = Counter(found.severity.value for found in short.values())
    context.log("low_stock.checked", items=checked, short=len(short), changed=len(changed))
    return StepResult(
        rows_in=checked,
        rows_out=len(changed),
        figures={"short": len(short), **severities},
        reads=("postgres:inventory.stock_levels_v1", "postgres:pipeline.stock_metrics_v1"),
        writes={"postgres:pipeline.alert": len(changed)},
    )


async def send_notifications(context: Context) -> StepResult:
    """Tell of what has changed: events for reorder and others, mails to those concerned.

    Each is written in the transaction that marks the alerts as told by it, so that each change is told once; the
    processes `relay` and `mail` send them. What nobody can be told waits until recipients are set. Dashboards see the
    alerts in `alerts_v1`.
    """
    settings = context.settings
    circle = Circle(settings.mail_recipients, settings.mail_warehouse_recipients)
    events, told, mails = 0, 0, 0
    while announced := await _announce(context):
        events += announced
        context.progress(events, events)
    while made := await _tell(context, circle):
        told, mails = told + sum(len(digest.alerts) for digest in made), mails + len(made)
        context.progress(events + told, events + told)
    async with acquired(context.pool) as connection:
        without_recipients = await alert_queries.count_without_recipients(connection, circle)
    context.log(
        "low_stock.told",
        level="warning" if without_recipients else "info",
        events=events,
        alerts=told,
        mails=mails,
        no_recipients=without_recipients,
    )
    return StepResult(
        rows_in=told,
        rows_out=events + mails,
        figures={"events": events, "mails": mails, "noRecipients": without_recipients},
        reads=("postgres:pipeline.alert", "postgres:inventory.products_v1"),
        writes={"postgres:pipeline.alert": None, "postgres:pipeline.mail": mails, "kafka:analytics-events": events},
    )


async def _shortages(context: Context, replenishment: Replenishment) -> tuple[int, dict[StockItem, Shortage]]:
    """How many items were checked, and those that are short."""
    short: dict[StockItem, Shortage] = {}
    checked, after = 0, ("", "")
    while True:
        async with acquired(context.pool) as connection:
            page = await alert_queries.stock_page(connection, after, CHUNK)
        if not page:
            return checked, short
        short |= await asyncio.to_thread(alert.shortages, page, replenishment)
        checked, after = checked + len(page), page[-1].item
        context.progress(checked, checked)


def _follow(
    live: Mapping[StockItem, Alert],
    short: Mapping[StockItem, Shortage],
    over: Sequence[ItemStock],
    replenishment: Replenishment,
) -> list[Alert]:
    """The alerts that are new or changed; `over` is the stock of items with a live alert that are short no more."""
    recovered = dict(zip([stock.item for stock in over], alert.figures(over, replenishment), strict=True))
    now = datetime.now(UTC)
    followed = (
        alert.follow(item, live.get(item), short.get(item) or recovered.get(item), now=now, new_id=uuid4())
        for item in sorted(live.keys() | short.keys())
    )
    return [changed for changed in followed if changed]


async def _announce(context: Context) -> int:
    """Publish the next events in one transaction; how many. 0 when none is due."""
    async with fence.transaction(context) as connection:
        alerts = await alert_queries.lock_unannounced(connection, MOST_EVENTS)
        await outbox.enqueue(connection, [low_stock_alert(due) for due in alerts])
        failpoint("batch.alerts.enqueued")
        await alert_queries.save(connection, [alert.announced(due) for due in alerts])
    failpoint("batch.alerts.announced")
    return len(alerts)


async def _tell(context: Context, circle: Circle) -> list[Digest]:
    """Mail of the next alerts in one transaction; what was mailed. Nothing when all is told that somebody can be."""
    async with fence.transaction(context) as connection:
        alerts = await alert_queries.lock_untold(connection, circle, MOST_IN_A_DIGEST)
        made: list[Digest] = digests(
            alerts,
            circle,
            names=await alert_queries.product_names(connection, {told.sku for told in alerts}),
            sender=context.settings.mail_from,
            digest_id=uuid4(),
            now=datetime.now(UTC),
        )
        for digest in made:
            await mail_queries.enqueue(connection, digest.mail)
            failpoint("batch.alerts.mailed")
            await alert_queries.save(connection, [alert.told(it, digest.mail.message_id) for it in digest.alerts])
    failpoint("batch.alerts.told")
    return made
