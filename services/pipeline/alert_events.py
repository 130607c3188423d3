"""The event that tells other services of a shortage; reorder looks at the stock item again when it comes."""

from libs.events.analytics import LowStockAlert
from libs.events.envelope import document_event_id
from services.pipeline.alert import Alert

SOURCE = "low_stock_alerts"


def low_stock_alert(alert: Alert) -> LowStockAlert:
    """The event of this revision of an alert."""
    return LowStockAlert(
        event_id=document_event_id("LOW_STOCK_ALERT", alert.alert_id, alert.revision),
        sku=alert.sku,
        warehouse_id=alert.warehouse_id,
        timestamp=alert.updated_at,
        recorded_at=alert.updated_at,
        source=SOURCE,
        revision=alert.revision,
        alert_id=alert.alert_id,
        severity=alert.severity,
        quantity_available=alert.quantity_available,
        reorder_point=alert.reorder_point,
        stockout_risk=alert.stockout_risk,
        suggested_action=alert.suggested_action,
    )
