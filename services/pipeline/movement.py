"""Movements: ledger entries summed into the UTC hour in which they happened."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal, localcontext

from libs.events.inventory import InventoryUpdate
from services.pipeline.velocity import DEMAND_TYPES

SECONDS_PER_HOUR = 3600

# 64-bit quantities times money of 18 digits need 37 digits, and sums of them a few more.
_EXACT = Context(prec=60)
_NOTHING = Decimal()


Bucket = tuple[str, str, int, str]
"""What is summed together: sku, warehouse_id, whole UTC hours since 1970, transaction type."""


@dataclass(slots=True)
class Totals:
    """Sums over the ledger entries of a bucket."""

    entries: int
    units_in: int
    units_out: int
    value: Decimal
    """Sum of quantity change x unit price (SALE, RETURN) or unit cost (all others): negative for what went out."""
    last_event_at: datetime


def hourly_totals(entries: Iterable[InventoryUpdate]) -> dict[Bucket, Totals]:
    """Totals per stock item, UTC hour and transaction type."""
    totals: dict[Bucket, Totals] = {}
    with localcontext(_EXACT):
        for entry in entries:
            at = entry.timestamp
            transaction_type = entry.transaction_type._value_
            bucket = (entry.sku, entry.warehouse_id, int(at.timestamp() // SECONDS_PER_HOUR), transaction_type)
            total = totals.get(bucket)
            if total is None:
                total = totals[bucket] = Totals(0, 0, 0, _NOTHING, at)
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
