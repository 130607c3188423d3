"""What must come out, computed in plain Python from the documents that the service acknowledged."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from decimal import Decimal
from uuid import UUID

from tools.chaos.documents import Document, Line
from tools.replay.catalogue import MinMaxPolicy

StockItem = tuple[str, str]
"""sku, warehouse."""
Bucket = tuple[str, str, int, str]
"""sku, warehouse, whole hours (or days) since 1970 in UTC, transaction type."""

_DEMAND = ("SALE", "RETURN")


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the lines of a bucket."""

    entries: int = 0
    units_in: int = 0
    units_out: int = 0
    value: Decimal = Decimal()

    def plus(self, line: Line, transaction_type: str) -> "Totals":
        """With one more line."""
        price = line.unit_price if transaction_type in _DEMAND else line.unit_cost
        return Totals(
            self.entries + 1,
            self.units_in + max(line.quantity_change, 0),
            self.units_out + max(-line.quantity_change, 0),
            self.value + line.quantity_change * (price or 0),
        )


@dataclass(slots=True)
class Oracle:
    """All that follows from the acknowledged documents."""

    documents: dict[UUID, Document] = field(default_factory=dict)
    on_hand: dict[StockItem, int] = field(default_factory=lambda: defaultdict(int))
    entries: dict[StockItem, int] = field(default_factory=lambda: defaultdict(int))
    """How many ledger entries each stock item has, which is also the sequence of the last one."""
    hourly: dict[Bucket, Totals] = field(default_factory=lambda: defaultdict(Totals))
    daily: dict[Bucket, Totals] = field(default_factory=lambda: defaultdict(Totals))
    policies: dict[StockItem, MinMaxPolicy] = field(default_factory=dict)
    """When each stock item is to be ordered, be it by a policy of reorder or by the thresholds of its level."""

    @property
    def as_of(self) -> date:
        """The latest UTC date on which something happened."""
        return max(document.occurred_at.astimezone(UTC).date() for document in self.documents.values())

    def demand(self, days: int) -> dict[StockItem, int]:
        """Units sold less units returned per stock item, in so many days up to `as_of`."""
        last = (self.as_of - date(1970, 1, 1)) // timedelta(days=1)
        demand = dict.fromkeys(self.entries, 0)
        for (sku, warehouse_id, day, transaction_type), totals in self.daily.items():
            if transaction_type in _DEMAND and day > last - days:
                demand[sku, warehouse_id] += totals.units_out - totals.units_in
        return demand

    def recommended(self) -> dict[StockItem, tuple[int, int, int]]:
        """Inventory position, reorder point and quantity to order of each stock item that must be ordered now."""
        return {
            item: (self.on_hand[item], policy.reorder_point, policy.order_up_to - self.on_hand[item])
            for item, policy in self.policies.items()
            if self.on_hand[item] <= policy.reorder_point
        }


def oracle(acknowledged: Iterable[Document], policies: Iterable[MinMaxPolicy]) -> Oracle:
    """What follows from these documents, whatever the order in which they were posted, and from these policies."""
    told = Oracle(policies={(policy.sku, policy.warehouse_id): policy for policy in policies})
    for document in acknowledged:
        told.documents[document.transaction_id] = document
        hour = int(document.occurred_at.timestamp() // 3600)
        for line in document.lines:
            item = line.sku, line.warehouse_id
            told.on_hand[item] += line.quantity_change
            told.entries[item] += 1
            for buckets, period in ((told.hourly, hour), (told.daily, hour // 24)):
                bucket = *item, period, document.transaction_type
                buckets[bucket] = buckets[bucket].plus(line, document.transaction_type)
    return told
