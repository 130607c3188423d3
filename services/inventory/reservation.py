"""Rules of reservations: units promised to somebody until they take them, give them back, or time is up. No I/O."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.inventory.stock import StockItem


@dataclass(frozen=True, slots=True)
class Hold:
    """The units of one stock item that one line of a reservation still holds."""

    reservation_id: UUID
    line_no: int
    sku: str
    warehouse_id: str
    outstanding: int
    expires_at: datetime

    @property
    def item(self) -> StockItem:
        return StockItem(self.sku, self.warehouse_id)
