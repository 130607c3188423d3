"""Movements: ledger entries summed into the UTC hour and day in which they happened."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal, localcontext
from typing import NamedTuple

from libs.events.inventory import InventoryUpdate
from services.pipeline.velocity import DEMAND_TYPES

SECONDS_PER_HOUR = 3600
HOURS_PER_DAY = 24

# 64-bit quantities times money of 18 digits need 37 digits, and sums of them a few more.
_EXACT = Context(prec=60)


class Bucket(NamedTuple):
    """What is summed together. `period` counts whole UTC hours or days since 1970."""

    sku: str
    warehouse_id: str
    period: int
    transaction_type: str


@dataclass(slots=True)
class Totals:
    """Sums over the ledger entries of a bucket."""

    entries: int
    units_in: int
    units_out: int
    value: Decimal
    """Sum of quantity change x unit price (SALE, RETURN) or unit cost (all others): negative for what went out."""
    last_event_at: datetime

    def add(self, other: "Totals") -> None:
        """Count the entries of another bucket in."""
        self.entries += other.entries
        self.units_in += other.units_in
        self.units_out += other.units_out
        self.value += other.value
        self.last_event_at = max(self.last_event_at, other.last_event_at)


def hourly_totals(entries: Iterable[InventoryUpdate]) -> dict[Bucket, Totals]:
    """Totals per stock item, UTC hour and transaction type."""
    totals: dict[Bucket, Totals] = {}
    with localcontext(_EXACT):
        for entry in entries:
            at = entry.timestamp
            transaction_type = entry.transaction_type._value_
            hour = int(at.timestamp() // SECONDS_PER_HOUR)
            bucket = Bucket(entry.sku, entry.warehouse_id, hour, transaction_type)
            total = totals.get(bucket)
            if total is None:
                total = totals[bucket] = Totals(0, 0, 0, Decimal(), at)
            units = entry.quantity_change
            total.entries += 1
            if units > 0:
                total.units_in += units
            else:
                total.units_out -= units
            worth = entry.unit_price if transaction_type in DEMAND_TYPES else entry.unit_cost
            if worth is not None:
                total.value += units * worth
            if at > total.last_event_at:
                total.last_event_at = at
    return totals


def daily_totals(hourly: Mapping[Bucket, Totals]) -> dict[Bucket, Totals]:
    """Totals per stock item, UTC day and transaction type."""
    totals: dict[Bucket, Totals] = {}
    with localcontext(_EXACT):
        for bucket, hour in hourly.items():
            day = bucket._replace(period=bucket.period // HOURS_PER_DAY)
            if day in totals:
                totals[day].add(hour)
            else:
                totals[day] = Totals(hour.entries, hour.units_in, hour.units_out, hour.value, hour.last_event_at)
    return totals
