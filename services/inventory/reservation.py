"""Rules of reservations: units promised to somebody until they take them, give them back, or time is up. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from services.inventory import stock
from services.inventory.refusal import (
    InsufficientStock,
    NotReserved,
    ReservationExpired,
    fault,
)
from services.inventory.stock import StockItem, StockLevel


class ReservationStatus(StrEnum):
    """Where a reservation stands."""

    ACTIVE = "active"
    FULFILLED = "fulfilled"
    RELEASED = "released"
    EXPIRED = "expired"


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

    @property
    def key(self) -> tuple[UUID, int]:
        return self.reservation_id, self.line_no


@dataclass(frozen=True, slots=True)
class Share:
    """Units of one stock item that are asked for, taken or given back."""

    sku: str
    warehouse_id: str
    quantity: int
    unit_price: Decimal | None = None

    @property
    def item(self) -> StockItem:
        return StockItem(self.sku, self.warehouse_id)


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation as it was asked for."""

    reservation_id: UUID
    lines: Sequence[Share]
    ttl_seconds: int
    allow_partial: bool
    request_hash: bytes
    actor: str
    source: str = "api"
    reference_id: str | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class Allocated:
    """What a reservation got: a quantity per line, and the levels of its stock items afterwards."""

    quantities: list[int]
    levels: dict[StockItem, StockLevel]


def allocate(asked: Reservation, levels: Mapping[StockItem, StockLevel]) -> Allocated:
    """The units each line gets, in line order; less than asked only when the reservation allows it.

    Raises InsufficientStock with every short line, and when there is nothing at all.
    """
    after = dict(levels)
    quantities, faults = [], []
    for index, line in enumerate(asked.lines):
        level = after[line.item]
        quantity = min(line.quantity, level.quantity_available)
        if quantity < line.quantity:
            detail = f"{line.item}: {level.quantity_available} available, {line.quantity} asked"
            faults.append(fault(f"/lines/{index}", detail))
        if quantity:
            after[line.item] = stock.hold(level, quantity)
        quantities.append(quantity)
    if faults and (not asked.allow_partial or not any(quantities)):
        raise InsufficientStock(faults[0]["detail"], faults)
    return Allocated(quantities, {item: level for item, level in after.items() if level is not levels[item]})


def take(holds: Sequence[Hold], shares: Iterable[Share], now: datetime) -> list[tuple[Hold, int]]:
    """The units that each hold gives for these shares, in line order.

    Raises ReservationExpired when time is up, and NotReserved with every line that asks for more than is held.
    """
    if any(hold.expires_at <= now for hold in holds):
        raise expired(holds[0])
    left = {hold.key: hold.outstanding for hold in holds}
    taken: dict[tuple[UUID, int], int] = {}
    faults = []
    for index, share in enumerate(shares):
        missing = share.quantity
        for hold in holds:
            if hold.item == share.item and missing:
                part = min(missing, left[hold.key])
                left[hold.key] -= part
                missing -= part
                taken[hold.key] = taken.get(hold.key, 0) + part
        if missing:
            detail = f"{share.item}: {share.quantity - missing} reserved, {share.quantity} asked"
            faults.append(fault(f"/lines/{index}", detail))
    if faults:
        raise NotReserved(faults[0]["detail"], faults)
    return [(hold, taken[hold.key]) for hold in holds if taken.get(hold.key)]


def expired(hold: Hold) -> ReservationExpired:
    """The refusal of a reservation whose time is up."""
    return ReservationExpired(f"Reservation {hold.reservation_id} expired at {hold.expires_at.isoformat()}")


def give_up(newest_first: Iterable[Hold], quantity: int) -> list[tuple[Hold, int]]:
    """The units that holds lose, the newest reservation first, so that `quantity` units become free."""
    lost = []
    for hold in newest_first:
        if quantity > 0 and hold.outstanding:
            part = min(quantity, hold.outstanding)
            lost.append((hold, part))
            quantity -= part
    return lost


def status(lines: Iterable[tuple[int, int, int]], expires_at: datetime, now: datetime) -> ReservationStatus:
    """Where a reservation stands whose lines have (quantity, fulfilled, outstanding)."""
    figures = list(lines)
    if expires_at > now and any(outstanding for _, _, outstanding in figures):
        return ReservationStatus.ACTIVE
    if all(quantity == fulfilled for quantity, fulfilled, _ in figures):
        return ReservationStatus.FULFILLED
    return ReservationStatus.EXPIRED if expires_at <= now else ReservationStatus.RELEASED
