"""Reconciliation: do all stores tell the same story as the ledger?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import islice

MOST_DIFFERENCES = 100
FINGERPRINT_MODULUS = 2**64

WarehouseDay = tuple[str, date]
"""warehouse_id, UTC date of the event."""
StockItem = tuple[str, str]
"""sku, warehouse_id."""


@dataclass(slots=True)
class Tally:
    """What a store holds of one warehouse and day."""

    entries: int = 0
    units: int = 0
    """Sum of quantity changes, opening balances included."""
    fingerprint: int | None = 0
    """Finds swapped and altered rows that count and sum miss; None where a store keeps sums only."""

    def count(self, transaction_id: str, line_no: int, units: int) -> None:
        """Count one ledger entry in.

        With id = the first 32 bits of the transaction's id + the line number, the fingerprint is
        sum((1 + id mod 1000003) x (units + 1048576)) mod 2^64: integers, the same in Python and in SQL.
        """
        identity = int(transaction_id[:8], 16) + line_no
        self.entries += 1
        self.units += units
        self.fingerprint = (
            (self.fingerprint or 0) + (1 + identity % 1_000_003) * (units + 1_048_576)
        ) % FINGERPRINT_MODULUS


class Tallies(dict[WarehouseDay, Tally]):
    """Tallies per warehouse and day."""

    def __missing__(self, day: WarehouseDay) -> Tally:
        tally = self[day] = Tally()
        return tally


@dataclass(frozen=True, slots=True)
class Holding:
    """What one store holds; None where it keeps nothing of the kind."""

    tallies: Tallies | None = None
    on_hand: Mapping[StockItem, int] | None = None
    external: int | None = None
    """Updates of third parties, each once per UTC date and eventId."""
    kept_from: date | None = None
    """Tallies of dates before it have been dropped on purpose; None where all are kept."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a store could not be read, or not wholly."""

    reason: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a store tells another story than the ledger: of a warehouse and day, or of a stock item."""

    store: str
    warehouse_id: str
    date: date | None
    sku: str | None
    expected: Tally | int | None
    found: Tally | int | None


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The answer over all stores."""

    exact: bool
    """Every store was read, and none differs."""
    differences: list[Difference]
    """The first of them."""
    total_differences: int
    external_exact: bool


@dataclass(slots=True)
class _Found:
    differences: list[Difference] = field(default_factory=list)
    total: int = 0

    def add(self, differences: Iterator[Difference]) -> None:
        shown = list(islice(differences, MOST_DIFFERENCES - len(self.differences)))
        self.differences += shown
        self.total += len(shown) + sum(1 for _ in differences)


def reconcile(ledger: Holding | Unreadable, stores: Mapping[str, Holding | Unreadable]) -> Reconciliation:
    """Compare what each store holds with the ledger. Nothing is exact while a store could not be read."""
    found = _Found()
    read = {name: store for name, store in stores.items() if isinstance(store, Holding)}
    all_read = isinstance(ledger, Holding) and len(read) == len(stores)
    if isinstance(ledger, Holding):
        for name, store in read.items():
            if store.tallies is not None and ledger.tallies is not None:
                found.add(_different_tallies(name, ledger.tallies, store.tallies, store.kept_from or date.min))
            if store.on_hand is not None and ledger.on_hand is not None:
                found.add(_different_items(name, ledger.on_hand, store.on_hand))
    external = {store.external for store in read.values() if store.external is not None}
    external_exact = len(external) <= 1
    exact = all_read and external_exact and found.total == 0
    return Reconciliation(exact, found.differences, found.total, external_exact)


def _different_tallies(store: str, expected: Tallies, found: Tallies, kept_from: date) -> Iterator[Difference]:
    for day in sorted(day for day in expected.keys() | found.keys() if day[1] >= kept_from):
        ours, theirs = expected.get(day), found.get(day)
        if not _agree(ours, theirs):
            yield Difference(store, day[0], day[1], None, ours, theirs)


def _agree(ours: Tally | None, theirs: Tally | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    sums_only = ours.fingerprint is None or theirs.fingerprint is None
    return (ours.entries, ours.units) == (theirs.entries, theirs.units) and (
        sums_only or ours.fingerprint == theirs.fingerprint
    )


def _different_items(
    store: str, expected: Mapping[StockItem, int], found: Mapping[StockItem, int]
) -> Iterator[Difference]:
    for item in sorted(expected.keys() | found.keys()):
        # A stock item that never moved may be there with nothing on hand.
        ours, theirs = expected.get(item), found.get(item)
        if (ours or 0) != (theirs or 0):
            yield Difference(store, item[1], None, item[0], ours, theirs)
