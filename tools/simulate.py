"""A seeded week of a made-up retailer, and what must come out of it when it is posted.

Demand per sku is skewed (Zipf) and, for one sku in three, intermittent; it follows the weekday and the hour. Goods are
received, returned, moved between warehouses and written off. Some documents are faulty: the service must refuse them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np

from libs.events.inventory import TransactionType
from tools.replay import catalogue, documents
from tools.replay.catalogue import Product
from tools.replay.documents import Document, Line, opening_balance_documents
from tools.replay.workload import Workload

WEEKDAY_WEIGHTS = np.array([1.0, 1.05, 1.0, 1.2, 1.3, 0.6, 0.85])
"""Monday first."""
HOUR_WEIGHTS = np.array([0, 0, 0, 0, 0, 0, 1, 3, 6, 9, 12, 13, 14, 13, 12, 10, 9, 7, 4, 2, 1, 0, 0, 0], dtype=float)
ZIPF_EXPONENT = 0.9
INTERMITTENT_SHARE = 1 / 3
INTERMITTENT_DAYS = 0.2
RETURNED_SHARE = 0.03
POLICIES = 500
THRESHOLDS = 50
"""The busiest stock items have a reorder policy, and the busiest of those thresholds."""
CITIES = ("BERLIN", "LYON", "MADRID", "OSLO", "TURIN", "PRAGUE", "GHENT", "PORTO", "LINZ", "MALMO")


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a simulation is."""

    skus: int = 500
    warehouses: int = 5
    days: int = 7
    sale_lines_per_day: int = 2_000
    faults_of_each_kind: int = 5
    first_date: date = date(2025, 6, 2)


@dataclass(slots=True)
class Oracle:
    """What every service must answer after the simulation is posted, counted while it is made.

    Movements are the lines of accepted documents without opening balances; demand is SALE minus RETURN units.
    """

    movements: Counter[tuple[date, str, str]] = field(default_factory=Counter)
    demand: Counter[tuple[date, str, str]] = field(default_factory=Counter)
    """By date, sku and warehouse."""
    quantity_on_hand: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By sku and warehouse."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Transaction id of every faulty document -> code of the refusal."""
    repeats: int = 0
    """Documents that are sent a second time with the same id: answered, not posted again."""

    def accept(self, document: Document) -> None:
        """Count a document that must be posted."""
        for line in document.lines:
            self.quantity_on_hand[line.sku, line.warehouse_id] += line.quantity_change
            if document.transaction_type is not TransactionType.OPENING_BALANCE:
                bucket = (document.occurred_at.date(), line.sku, line.warehouse_id)
                self.movements[bucket] += 1
                if document.transaction_type in {TransactionType.SALE, TransactionType.RETURN}:
                    self.demand[bucket] -= line.quantity_change


@dataclass(frozen=True, slots=True)
class Simulation:
    """Documents to post and what must come of them."""

    workload: Workload
    oracle: Oracle


def simulate(seed: int, scale: Scale) -> Simulation:
    """The same simulation for the same seed and scale."""
    retailer = _Retailer(seed, scale)
    accepted = sorted(retailer.a_week(), key=lambda document: document.occurred_at)
    opening = retailer.opening_balances(accepted)
    oracle = Oracle()
    for document in (*opening, *accepted):
        oracle.accept(document)
    faulty = retailer.faults()
    oracle.refusals = {str(document.transaction_id): code for document, code in faulty}
    repeated = accepted[:: max(1, len(accepted) // scale.faults_of_each_kind)][: scale.faults_of_each_kind]
    oracle.repeats = len(repeated)
    sent = (
        sorted([*accepted, *(document for document, _ in faulty)], key=lambda document: document.occurred_at) + repeated
    )
    policies = retailer.policies(oracle)
    workload = Workload(
        products=[Product(sku, f"Article {sku}") for sku in retailer.skus],
        warehouses=retailer.warehouses,
        policies=policies[:POLICIES],
        thresholds=policies[:THRESHOLDS],
        opening_balances=opening,
        documents=sent,
        line_count=sum(len(document.lines) for document in sent),
    )
    return Simulation(workload, oracle)


class _Retailer:
    """The source of documents; every draw comes from one generator."""

    def __init__(self, seed: int, scale: Scale) -> None:
        self._rng = np.random.default_rng(seed)
        self._seed = seed
        self._scale = scale
        self._made = 0
        self.skus = [f"ART-{number:04d}" for number in range(1, scale.skus + 1)]
        self.warehouses = [f"{CITIES[n % len(CITIES)]}-{n // len(CITIES) + 1}" for n in range(scale.warehouses)]
        self._popularity = self._rng.permutation(1.0 / np.arange(1, scale.skus + 1) ** ZIPF_EXPONENT)
        self._intermittent = self._rng.random(scale.skus) < INTERMITTENT_SHARE
        self._prices = [f"{price:.2f}" for price in np.exp(self._rng.normal(2.0, 0.9, scale.skus)).clip(0.10, 500)]
        self._warehouse_share = self._rng.dirichlet(np.full(scale.warehouses, 4.0))

    def a_week(self) -> Iterator[Document]:
        """Documents that the service must accept, day by day."""
        for number in range(self._scale.days):
            day = self._scale.first_date + timedelta(days=number)
            yield from self._sales_and_returns(day)
            yield from self._receipts(day)
            yield from self._transfers(day)
            yield from self._write_offs(day)

    def opening_balances(self, accepted: list[Document]) -> list[Document]:
        """Enough of every stock item for all that leaves it, in whatever order, and for most items some to spare."""
        leaving: Counter[tuple[str, str]] = Counter()
        for document in accepted:
            for line in document.lines:
                leaving[line.warehouse_id, line.sku] += max(0, -line.quantity_change)
        items = sorted(leaving)
        spare = self._rng.geometric(0.05, len(items)) * (self._rng.random(len(items)) < 0.8)
        lines = [
            Line(sku, warehouse, leaving[warehouse, sku] + int(extra))
            for (warehouse, sku), extra in zip(items, spare, strict=True)
            if leaving[warehouse, sku] + extra > 0
        ]
        return opening_balance_documents(lines, _midnight(self._scale.first_date) - timedelta(days=1))

    def policies(self, oracle: Oracle) -> list[catalogue.MinMaxPolicy]:
        """Min/max policies of all stock items in demand, busiest first."""
        demand: Counter[tuple[str, str]] = Counter()
        for (_, sku, warehouse), units in oracle.demand.items():
            demand[sku, warehouse] += units
        busiest = sorted(((-units, item) for item, units in demand.items() if units > 0))
        return [catalogue.min_max_policy(*item, -minus_units / self._scale.days) for minus_units, item in busiest]

    def faults(self) -> list[tuple[Document, str]]:
        """Documents that the service must refuse, and the code of the refusal."""
        sku, warehouse, day = self.skus[0], self.warehouses[0], self._scale.first_date
        kinds = [
            (TransactionType.SALE, Line(sku, warehouse, -(10**12)), "insufficient-stock"),
            (TransactionType.SALE, Line("NO-SUCH-SKU", warehouse, -1), "unknown-product"),
            (TransactionType.SALE, Line(sku, "NOWHERE-1", -1), "unknown-warehouse"),
            (TransactionType.SALE, Line(sku, warehouse, 3), "wrong-sign"),
            (TransactionType.RETURN, Line(sku, warehouse, 0), "wrong-sign"),
            (TransactionType.SALE, Line(f" {sku}", warehouse, -1), "validation-failed"),
        ]
        return [
            (self._document(transaction_type, self._time_on(day), [line]), code)
            for transaction_type, line, code in kinds
            for _ in range(self._scale.faults_of_each_kind)
        ]

    def _sales_and_returns(self, day: date) -> Iterator[Document]:
        expected = self._scale.sale_lines_per_day * WEEKDAY_WEIGHTS[day.weekday()]
        remaining = int(self._rng.poisson(expected))
        asleep = self._intermittent & (self._rng.random(self._scale.skus) >= INTERMITTENT_DAYS)
        weights = np.where(asleep, 0.0, self._popularity)
        while remaining > 0:
            size = min(remaining, int(self._rng.geometric(0.15)))
            remaining -= size
            warehouse = self.warehouses[self._rng.choice(self._scale.warehouses, p=self._warehouse_share)]
            picks = self._rng.choice(self._scale.skus, size, p=weights / weights.sum())
            units = self._rng.negative_binomial(1, 0.15, size) + 1
            sale = self._document(TransactionType.SALE, self._time_on(day), self._lines(picks, warehouse, -units))
            yield sale
            if self._rng.random() < RETURNED_SHARE:
                back = [
                    Line(line.sku, line.warehouse_id, -line.quantity_change, line.unit_price) for line in sale.lines
                ]
                yield self._document(TransactionType.RETURN, self._time_on(day), back)

    def _receipts(self, day: date) -> Iterator[Document]:
        for warehouse in self.warehouses:
            picks = self._some_skus(self._scale.skus // 20)
            units = self._rng.integers(12, 200, len(picks))
            yield self._document(TransactionType.RECEIPT, self._time_on(day), self._lines(picks, warehouse, units))

    def _transfers(self, day: date) -> Iterator[Document]:
        if self._scale.warehouses < 2:
            return
        for _ in range(self._scale.warehouses):
            origin, destination = self._rng.choice(self.warehouses, 2, replace=False)
            lines = []
            for pick in self._some_skus(5):
                units = int(self._rng.integers(1, 30))
                lines += [Line(self.skus[pick], str(origin), -units), Line(self.skus[pick], str(destination), units)]
            yield self._document(TransactionType.TRANSFER, self._time_on(day), lines)

    def _write_offs(self, day: date) -> Iterator[Document]:
        for warehouse in self.warehouses:
            picks = self._some_skus(3)
            lines = self._lines(picks, warehouse, -self._rng.integers(1, 5, len(picks)))
            yield self._document(TransactionType.WRITE_OFF, self._time_on(day), lines)

    def _some_skus(self, count: int) -> np.ndarray:
        return self._rng.choice(self._scale.skus, min(max(1, count), self._scale.skus), replace=False)

    def _lines(self, picks: np.ndarray, warehouse: str, changes: np.ndarray) -> list[Line]:
        return [
            Line(self.skus[pick], warehouse, int(change), self._prices[pick])
            for pick, change in zip(picks, changes, strict=True)
        ]

    def _time_on(self, day: date) -> datetime:
        hour = int(self._rng.choice(24, p=HOUR_WEIGHTS / HOUR_WEIGHTS.sum()))
        return _midnight(day) + timedelta(hours=hour, seconds=int(self._rng.integers(3600)))

    def _document(self, transaction_type: TransactionType, occurred_at: datetime, lines: list[Line]) -> Document:
        self._made += 1
        identity = documents.transaction_id("simulation", self._seed, self._scale, self._made)
        return Document(identity, transaction_type, occurred_at, tuple(lines), f"SIM-{self._made:06d}")


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
