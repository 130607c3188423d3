"""Rules of one stock level: what may happen to the units of a sku in a warehouse. No I/O."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from libs.events.inventory import StockStatus
from services.inventory.refusal import InsufficientStock, QuantityOutOfRange, StockInconsistent

MOST_UNITS = 2**63 - 1


class StockItem(NamedTuple):
    """A sku in a warehouse. Its natural order is the order in which levels are locked."""

    sku: str
    warehouse_id: str

    def __str__(self) -> str:
        return f"{self.sku} in {self.warehouse_id}"


@dataclass(frozen=True, slots=True)
class StockLevel:
    """The units of one stock item at one revision."""

    sku: str
    warehouse_id: str
    quantity_on_hand: int
    quantity_reserved: int
    reorder_point: int | None
    reorder_quantity: int | None
    sequence: int
    revision: int
    updated_at: datetime

    @property
    def item(self) -> StockItem:
        return StockItem(self.sku, self.warehouse_id)

    @property
    def quantity_available(self) -> int:
        return self.quantity_on_hand - self.quantity_reserved

    @property
    def status(self) -> StockStatus:
        """Out of stock at 0 available units, low at the reorder point or below."""
        if self.quantity_available == 0:
            return StockStatus.OUT_OF_STOCK
        if self.reorder_point is not None and self.quantity_available <= self.reorder_point:
            return StockStatus.LOW_STOCK
        return StockStatus.IN_STOCK


def move(level: StockLevel, quantity_change: int, *, from_reserved: bool = False) -> StockLevel:
    """The level after one ledger entry.

    Units that leave come from the available ones, or with `from_reserved` from those promised to their taker.
    Raises InsufficientStock, naming both numbers, and QuantityOutOfRange.
    """
    asked = -quantity_change
    takeable = level.quantity_reserved if from_reserved else level.quantity_available
    if asked > takeable:
        kind = "reserved" if from_reserved else "available"
        raise InsufficientStock(f"{level.item}: {takeable} {kind}, {asked} asked")
    if level.quantity_on_hand + quantity_change > MOST_UNITS:
        raise QuantityOutOfRange(f"{level.item}: the balance would exceed {MOST_UNITS} units")
    return StockLevel(
        level.sku,
        level.warehouse_id,
        level.quantity_on_hand + quantity_change,
        level.quantity_reserved - asked if from_reserved else level.quantity_reserved,
        level.reorder_point,
        level.reorder_quantity,
        level.sequence + 1,
        level.revision + 1,
        level.updated_at,
    )


def hold(level: StockLevel, quantity: int) -> StockLevel:
    """The level with `quantity` more units reserved. Raises InsufficientStock."""
    if quantity > level.quantity_available:
        raise InsufficientStock(f"{level.item}: {level.quantity_available} available, {quantity} asked")
    return _reserved(level, level.quantity_reserved + quantity)


def release(level: StockLevel, quantity: int) -> StockLevel:
    """The level with `quantity` fewer units reserved. Raises StockInconsistent when fewer are reserved than that."""
    if quantity > level.quantity_reserved:
        detail = f"{level.item}: {level.quantity_reserved} reserved by the level, {quantity} by its reservations"
        raise StockInconsistent(detail)
    return _reserved(level, level.quantity_reserved - quantity)


def _reserved(level: StockLevel, quantity_reserved: int) -> StockLevel:
    return StockLevel(
        level.sku,
        level.warehouse_id,
        level.quantity_on_hand,
        quantity_reserved,
        level.reorder_point,
        level.reorder_quantity,
        level.sequence,
        level.revision + 1,
        level.updated_at,
    )


def empty(item: StockItem, now: datetime) -> StockLevel:
    """The level of an item that never had any stock."""
    return StockLevel(item.sku, item.warehouse_id, 0, 0, None, None, 0, 0, now)
