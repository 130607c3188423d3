"""A low stock alert has the stock item looked at again."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from libs.chassis.database import Pool
from libs.events.analytics import LowStockAlert, Severity
from libs.events.envelope import document_event_id
from tests.reorder.factories import NOW, WIDGET, a_level_change
from tests.reorder.test_consumer import announced, consume

ALERT = UUID(int=7)


def an_alert(revision: int = 1) -> LowStockAlert:
    return LowStockAlert(
        event_id=document_event_id("LOW_STOCK_ALERT", ALERT, revision),
        sku=WIDGET.sku,
        warehouse_id=WIDGET.warehouse_id,
        timestamp=NOW,
        recorded_at=NOW,
        source="low_stock_alerts",
        revision=revision,
        alert_id=ALERT,
        severity=Severity.WARNING,
        quantity_available=4,
        reorder_point=5,
        stockout_risk=0.3,
        suggested_action="Order now",
    )


async def test_an_alert_opens_what_a_new_policy_would_recommend(pool: Pool) -> None:
    await consume(pool, a_level_change(4, revision=1))
    await pool.execute(
        "INSERT INTO reorder_policy (sku, warehouse_id, kind, reorder_point, order_up_to)"
        " VALUES ($1, $2, 'min_max', 10, 50)",
        *WIDGET,
    )
    assert await announced(pool) == []

    await consume(pool, an_alert())

    assert [name for name, _ in await announced(pool)] == ["REORDER_TRIGGERED", "REORDER_RECOMMENDATION"]


async def test_an_alert_wakes_a_recommendation_whose_snooze_is_over_once(pool: Pool) -> None:
    await consume(pool, a_level_change(4, revision=1, reorder_point=5, reorder_quantity=20))
    await pool.execute(
        "UPDATE recommendation SET status = 'snoozed', snoozed_until = $1", datetime.now(UTC) - timedelta(minutes=1)
    )

    await consume(pool, an_alert())
    await consume(pool, an_alert())

    assert await pool.fetchval("SELECT status FROM recommendation") == "open"
    assert [name for name, _ in await announced(pool)] == [
        "REORDER_TRIGGERED",
        "REORDER_RECOMMENDATION",
        "REORDER_RECOMMENDATION",
    ]


async def test_an_alert_about_an_item_that_nobody_reorders_recommends_nothing(pool: Pool) -> None:
    await consume(pool, an_alert())

    assert await announced(pool) == []
