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
from services.pipeline import alert, alert_queries, mail_queries
from services.pipeline.alert import Alert, ItemStock, Notice, Replenishment, Shortage, StockItem
from services.pipeline.alert_digest import Circle, Digest, digests
from services.pipeline.alert_events import low_stock_alert
from services.pipeline.jobs import fence
from services.pipeline.jobs.step import Context, StepResult
from services.pipeline.settings import Settings

CHUNK: Final = 5_000
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
    severities = Counter(found.severity.value for found in short.values())
    context.log("low_stock.checked", items=checked, short=len(short), changed=len(changed))
    return StepResult(
        rows_in=checked,
        rows_out=len(changed),
        figures={"short": len(short), **severities},
        reads=("postgres:inventory.stock_levels_v1", "postgres:pipeline.stock_metrics_v1"),
        writes=("postgres:pipeline.alert",),
    )


async def send_notifications(context: Context) -> StepResult:
    """Tell of what has changed: events for reorder and others, mails to those concerned.

    Events and mails are written in the transaction that marks the alerts as told, so that each change is told once; the
    processes `relay` and `mail` send them. Dashboards see the alerts in `alerts_v1`.
    """
    told, mails = 0, 0
    while alerts := await _tell(context.settings, context):
        told, mails = told + len(alerts[0]), mails + alerts[1]
        context.progress(told, told)
    return StepResult(
        rows_in=told,
        rows_out=mails,
        figures={"mails": mails},
        reads=("postgres:pipeline.alert", "postgres:inventory.products_v1"),
        writes=("postgres:pipeline.alert", "postgres:pipeline.mail", "kafka:analytics-events"),
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


async def _tell(settings: Settings, context: Context) -> tuple[list[Alert], int] | None:
    """Tell of the next alerts in one transaction; them, and how many mails that made. None when all is told."""
    circle = Circle(settings.mail_recipients, settings.mail_warehouse_recipients)
    async with fence.transaction(context) as connection:
        alerts = await alert_queries.lock_untold(connection, MOST_IN_A_DIGEST)
        if not alerts:
            return None
        await outbox.enqueue(
            connection, [low_stock_alert(told) for told in alerts if told.notice is not Notice.RECOVERED]
        )
        made: list[Digest] = digests(
            alerts,
            circle,
            names=await alert_queries.product_names(connection, {told.sku for told in alerts}),
            sender=settings.mail_from,
            digest_id=uuid4(),
            now=datetime.now(UTC),
        )
        for digest in made:
            await mail_queries.enqueue(connection, digest.mail)
        thread_of = {told.alert_id: digest.mail.message_id for digest in made for told in digest.alerts}
        await alert_queries.save(connection, [alert.told(it, thread_of.get(it.alert_id)) for it in alerts])
    return alerts, len(made)
