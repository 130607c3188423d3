"""What reorder knows of one stock item, and how the events about it change that.

State (quantities, thresholds, demand) is applied when its revision is not smaller than the stored one, so repeats and
late events change nothing. Sequences are counted besides, to tell repeats and gaps in the ledger.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from libs.events import sequence
from libs.events.analytics import LowStockAlert, VelocityCalculated
from libs.events.inventory import InventoryUpdate, StockLevelChange
from services.reorder.recommendation import StockItem
from services.reorder.replenishment import Demand, Stock

PositionEvent = InventoryUpdate | StockLevelChange | VelocityCalculated | LowStockAlert

NOTHING_SEEN = sequence.Seen()
EMPTY_SHELF = Stock(0, 0, 0)


@dataclass(frozen=True, slots=True)
class InventoryPosition:
    """One stock item as the events so far tell it. `revision` 0 means that none has told its stock yet."""

    item: StockItem
    seen: sequence.Seen = NOTHING_SEEN
    revision: int = 0
    stock: Stock = EMPTY_SHELF
    thresholds_revision: int = 0
    reorder_point: int | None = None
    reorder_quantity: int | None = None
    demand_revision: int = 0
    demand: Demand | None = None


def apply(position: InventoryPosition, events: Sequence[PositionEvent]) -> InventoryPosition:
    """The position after some events of its stock item, in whatever order they come."""
    numbers = [event.sequence for event in events if isinstance(event, InventoryUpdate)]
    position = replace(position, seen=sequence.admit(position.seen, numbers).seen)
    for event in events:
        position = _apply(position, event)
    return position


def _apply(position: InventoryPosition, event: PositionEvent) -> InventoryPosition:
    match event:
        case InventoryUpdate():
            return _restock(position, event)
        case StockLevelChange():
            return _rethreshold(_restock(position, event), event)
        case VelocityCalculated():
            return _learn_demand(position, event)
        case LowStockAlert():
            return position  # It asks for an evaluation; its figures are the pipeline's.


def _restock(position: InventoryPosition, event: InventoryUpdate | StockLevelChange) -> InventoryPosition:
    if event.revision < position.revision:
        return position
    stock = replace(position.stock, quantity_on_hand=event.quantity_on_hand, quantity_reserved=event.quantity_reserved)
    return replace(position, revision=event.revision, stock=stock)


def _rethreshold(position: InventoryPosition, event: StockLevelChange) -> InventoryPosition:
    if event.revision < position.thresholds_revision:
        return position
    return replace(
        position,
        thresholds_revision=event.revision,
        reorder_point=event.reorder_point,
        reorder_quantity=event.reorder_quantity,
    )


def _learn_demand(position: InventoryPosition, event: VelocityCalculated) -> InventoryPosition:
    if event.revision < position.demand_revision:
        return position
    velocities = {window.days: window.velocity_per_day for window in event.windows}
    return replace(position, demand_revision=event.revision, demand=Demand(event.as_of, velocities))
