"""Events and values for the tests, with defaults for what does not matter."""

from datetime import UTC, date, datetime
from uuid import UUID, uuid5

from aiokafka import ConsumerRecord

from libs.events.analytics import DemandWindow, VelocityCalculated
from libs.events.envelope import Event, stock_item_event_id
from libs.events.inventory import (
    InventoryUpdate,
    LevelChangeCause,
    StockLevelChange,
    StockStatus,
    TransactionType,
)
from services.reorder.recommendation import StockItem

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WIDGET = StockItem("WIDGET", "BERLIN")
TRANSACTION = UUID("00000000-0000-4000-8000-000000000001")


def a_ledger_entry(
    on_hand: int, *, sequence: int = 1, revision: int | None = None, reserved: int = 0, item: StockItem = WIDGET
) -> InventoryUpdate:
    return InventoryUpdate(
        event_id=stock_item_event_id("INVENTORY_UPDATE", item.warehouse_id, item.sku, sequence),
        sku=item.sku,
        warehouse_id=item.warehouse_id,
        quantity_change=-1,
        timestamp=NOW,
        recorded_at=NOW,
        source="api",
        sequence=sequence,
        revision=revision or sequence,
        transaction_id=uuid5(TRANSACTION, str(sequence)),
        transaction_type=TransactionType.SALE,
        line_no=1,
        quantity_on_hand=on_hand,
        quantity_reserved=reserved,
    )


def a_level_change(
    on_hand: int,
    *,
    revision: int,
    reserved: int = 0,
    reorder_point: int | None = None,
    reorder_quantity: int | None = None,
    item: StockItem = WIDGET,
) -> StockLevelChange:
    return StockLevelChange(
        event_id=stock_item_event_id("STOCK_LEVEL_CHANGE", item.warehouse_id, item.sku, revision),
        sku=item.sku,
        warehouse_id=item.warehouse_id,
        timestamp=NOW,
        recorded_at=NOW,
        source="api",
        revision=revision,
        quantity_on_hand=on_hand,
        quantity_reserved=reserved,
        quantity_available=on_hand - reserved,
        reorder_point=reorder_point,
        reorder_quantity=reorder_quantity,
        stock_status=StockStatus.IN_STOCK,
        cause=LevelChangeCause.THRESHOLDS,
    )


def a_velocity(per_day: float, *, revision: int = 1, item: StockItem = WIDGET) -> VelocityCalculated:
    return VelocityCalculated(
        event_id=stock_item_event_id("VELOCITY_CALCULATED", item.warehouse_id, item.sku, revision),
        sku=item.sku,
        warehouse_id=item.warehouse_id,
        timestamp=NOW,
        recorded_at=NOW,
        source="pipeline",
        revision=revision,
        as_of=date(2026, 3, 1),
        windows=[DemandWindow(days=7, demand=round(7 * per_day), velocity_per_day=per_day, sd_daily_demand=0.0)],
    )


def a_record(event: Event, offset: int, topic: str = "inventory-events") -> ConsumerRecord:
    value = event.model_dump_json().encode()
    key = event.key.encode()
    return ConsumerRecord(topic, 0, offset, 1, 0, key, value, None, len(key), len(value), [])
