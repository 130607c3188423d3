"""Stock transactions made up from a seed: the load, and all that the oracle needs to know of it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from tools.replay.catalogue import MinMaxPolicy

DAYS = 3
"""Over how many days before now the documents are spread."""
OPENING_UNITS = 2_000
SCARCE_UNITS = 30
"""On the shelves of one product in ten, which is soon sold out."""
ORDERED_UNITS = 200
MOST_LINES = 8

_TYPES = {"SALE": 55, "RECEIPT": 18, "RETURN": 8, "TRANSFER": 9, "ADJUSTMENT": 6, "WRITE_OFF": 4}
_AWKWARD = ("", " of 12", ":B", "%41", "/EU", " ÄÖ", "|1", "'x", '"q"', ",2")
"""Ends of skus that keys, paths, SQL or CSV might stumble over."""


@dataclass(frozen=True, slots=True)
class Line:
    """The change of one stock item."""

    sku: str
    warehouse_id: str
    quantity_change: int
    unit_cost: Decimal | None = None
    unit_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A stock transaction to post."""

    transaction_id: UUID
    transaction_type: str
    occurred_at: datetime
    lines: tuple[Line, ...]

    @property
    def events(self) -> int:
        """How many events it must become, at least: one per line and one for itself."""
        return len(self.lines) + 1

    def body(self) -> dict[str, Any]:
        """As the REST API takes it."""
        body: dict[str, Any] = {
            "transactionId": str(self.transaction_id),
            "transactionType": self.transaction_type,
            "occurredAt": self.occurred_at.isoformat(),
            "lines": [_line(line) for line in self.lines],
        }
        return body | ({"reason": "recount"} if self.transaction_type == "ADJUSTMENT" else {})


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The products and warehouses that documents are about."""

    skus: tuple[str, ...]
    warehouses: tuple[str, ...]


def catalogue(skus: int, warehouses: int) -> Catalogue:
    """So many products and warehouses, some with names that are hard to handle."""
    return Catalogue(
        tuple(f"SKU-{number:03d}{_AWKWARD[number % len(_AWKWARD)]}" for number in range(skus)),
        tuple(f"WH {number}{_AWKWARD[number % len(_AWKWARD)]}" for number in range(warehouses)),
    )


def opening_documents(choice: random.Random, items: Catalogue, now: datetime) -> Iterator[Document]:
    """One document per product that fills its shelves."""
    for number, sku in enumerate(items.skus):
        units = _opening_units(number)
        lines = tuple(Line(sku, warehouse_id, units, _money(choice)) for warehouse_id in items.warehouses)
        yield Document(_id(choice), "OPENING_BALANCE", now - timedelta(days=DAYS), lines)


def policies(items: Catalogue) -> list[MinMaxPolicy]:
    """Reorder policies for one product in four; the first sales already bring its stock below the reorder point."""
    return [_policy(items.skus[number], warehouse, number) for number, warehouse in _every(4, 0, items)]


def thresholds(items: Catalogue) -> list[MinMaxPolicy]:
    """Thresholds for the stock levels of another product in four."""
    return [_policy(items.skus[number], warehouse, number) for number, warehouse in _every(4, 1, items)]


def _every(step: int, first: int, items: Catalogue) -> Iterator[tuple[int, str]]:
    return ((number, warehouse) for number in range(first, len(items.skus), step) for warehouse in items.warehouses)


def _policy(sku: str, warehouse_id: str, number: int) -> MinMaxPolicy:
    reorder_point = _opening_units(number) - 10
    return MinMaxPolicy(sku, warehouse_id, reorder_point, reorder_point + ORDERED_UNITS)


def _opening_units(number: int) -> int:
    return SCARCE_UNITS if number % 10 == 9 else OPENING_UNITS


def documents(choice: random.Random, items: Catalogue, now: datetime) -> Iterator[Document]:
    """Documents of every type, without end; a few ask for more than there can be."""
    while True:
        transaction_type = choice.choices(list(_TYPES), list(_TYPES.values()))[0]
        occurred_at = now - timedelta(seconds=choice.randrange(DAYS * 86_400))
        yield Document(_id(choice), transaction_type, occurred_at, tuple(_lines(choice, transaction_type, items)))


def _lines(choice: random.Random, transaction_type: str, items: Catalogue) -> list[Line]:
    if transaction_type == "TRANSFER":
        sku, units = choice.choice(items.skus), choice.randint(1, 9)
        source, target = choice.sample(items.warehouses, 2)
        return [Line(sku, source, -units), Line(sku, target, units)]
    return [_movement(choice, transaction_type, items) for _ in range(choice.randint(1, MOST_LINES))]


def _movement(choice: random.Random, transaction_type: str, items: Catalogue) -> Line:
    # Products of low numbers sell most, so that some keys are hot.
    sku = items.skus[min(choice.randrange(len(items.skus)), choice.randrange(len(items.skus)))]
    warehouse_id = choice.choice(items.warehouses)
    units = 10 * OPENING_UNITS if transaction_type == "SALE" and choice.random() < 0.005 else choice.randint(1, 9)
    match transaction_type:
        case "SALE":
            return Line(sku, warehouse_id, -units, unit_price=_money(choice))
        case "RETURN":
            return Line(sku, warehouse_id, units, unit_price=_money(choice))
        case "WRITE_OFF":
            return Line(sku, warehouse_id, -units)
        case "ADJUSTMENT":
            return Line(sku, warehouse_id, choice.choice((-units, units)), _money(choice))
        case _:
            return Line(sku, warehouse_id, units, _money(choice))


def _line(line: Line) -> dict[str, Any]:
    body: dict[str, Any] = {
        "sku": line.sku,
        "warehouseId": line.warehouse_id,
        "quantityChange": line.quantity_change,
    }
    prices = {"unitCost": line.unit_cost, "unitPrice": line.unit_price}
    return body | {name: str(price) for name, price in prices.items() if price is not None}


def _money(choice: random.Random) -> Decimal:
    return Decimal(choice.randrange(1, 100_000)) / 1000


def _id(choice: random.Random) -> UUID:
    return UUID(int=choice.getrandbits(128), version=4)
