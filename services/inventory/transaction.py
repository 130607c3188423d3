"""Rules of stock transactions: documents whose lines move stock, all of them or none. No I/O."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from libs.events.inventory import TransactionType
from services.inventory import reservation, stock
from services.inventory.refusal import (
    Archived,
    CountConflict,
    OccurredInFuture,
    ReasonMissing,
    Refused,
    ReservedExceedsCount,
    UnbalancedTransfer,
    UnknownProduct,
    UnknownWarehouse,
    WrongLine,
    WrongSign,
    fault,
)
from services.inventory.reservation import Hold
from services.inventory.stock import StockItem, StockLevel

MOST_AHEAD = timedelta(minutes=5)
"""How far `occurred_at` may lie ahead of our clock: clocks differ, the future does not happen yet."""

MOST_HOLDERS_NAMED = 20

_REVERSAL_TYPE = {
    TransactionType.SALE: TransactionType.RETURN,
    TransactionType.RETURN: TransactionType.SALE,
    TransactionType.TRANSFER: TransactionType.TRANSFER,
}
_INBOUND = {TransactionType.RECEIPT, TransactionType.RETURN, TransactionType.OPENING_BALANCE}
_OUTBOUND = {TransactionType.SALE, TransactionType.WRITE_OFF}


class OnShortfall(StrEnum):
    """What a count does when fewer units were counted than are reserved."""

    REJECT = "reject"
    RELEASE_NEWEST = "releaseNewest"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a document: a change of one stock item, or for a count what was found."""

    sku: str
    warehouse_id: str
    quantity_change: int | None = None
    counted_quantity: int | None = None
    expected_quantity: int | None = None
    unit_cost: Decimal | None = None
    unit_price: Decimal | None = None

    @property
    def item(self) -> StockItem:
        return StockItem(self.sku, self.warehouse_id)


@dataclass(frozen=True, slots=True)
class Document:
    """A stock transaction as it was asked for."""

    transaction_id: UUID
    transaction_type: TransactionType
    lines: Sequence[Line]
    request_hash: bytes
    actor: str
    source: str = "api"
    reference_id: str | None = None
    notes: str | None = None
    reason: str | None = None
    occurred_at: datetime | None = None
    reverses_id: UUID | None = None
    reservation_id: UUID | None = None
    on_shortfall: OnShortfall = OnShortfall.REJECT

    @property
    def items(self) -> list[StockItem]:
        return [line.item for line in self.lines]


@dataclass(frozen=True, slots=True)
class Catalogued:
    """What the catalogue says of a stock item: the status of its product and warehouse, None when unknown."""

    product_status: str | None
    warehouse_status: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One ledger entry: the effect of a line on its stock item."""

    line_no: int
    sku: str
    warehouse_id: str
    quantity_change: int
    quantity_before: int
    quantity_after: int
    quantity_reserved_after: int
    sequence: int
    revision: int
    unit_cost: Decimal | None
    unit_price: Decimal | None


@dataclass(frozen=True, slots=True)
class Posting:
    """What a document does: its ledger entries, its stock items' levels afterwards, and the holds that a count ends."""

    entries: list[Entry]
    levels: dict[StockItem, StockLevel]
    released: list[tuple[Hold, int]]


def check(document: Document, now: datetime) -> None:
    """Refuse a document that is wrong in itself, whatever the stock is; every faulty line is named."""
    if document.occurred_at is not None and document.occurred_at > now + MOST_AHEAD:
        detail = f"occurredAt {document.occurred_at.isoformat()} lies more than 5 minutes ahead"
        raise OccurredInFuture(detail, [fault("/occurredAt", detail)])
    if document.transaction_type is TransactionType.ADJUSTMENT and not (document.reason or document.reverses_id):
        raise ReasonMissing("An adjustment needs a reason", [fault("/reason", "Say why the stock is adjusted")])
    _check_kind_of_lines(document)
    _check_signs(document)
    if document.transaction_type is TransactionType.TRANSFER:
        _check_transfer(document.lines)


def check_items(items: Iterable[StockItem], unusable: Mapping[StockItem, Catalogued]) -> None:
    """Refuse lines whose product or warehouse is unknown or archived; `items` are those of the lines, in order."""
    refusals: list[tuple[int, Refused]] = []
    for line_no, item in enumerate(items, start=1):
        if (catalogued := unusable.get(item)) is not None:
            refusals.append((line_no, _unusable(item, catalogued)))
    if refusals:
        raise _joined(refusals)


def post(
    document: Document, levels: Mapping[StockItem, StockLevel], newest_holds: Mapping[StockItem, Sequence[Hold]]
) -> Posting:
    """The document's effect, lines of one stock item in line order, every running balance enforced.

    `newest_holds` are the holds on counted items, the newest first. Raises InsufficientStock with every short line,
    CountConflict, ReservedExceedsCount, QuantityOutOfRange.
    """
    posting = Posting([], {}, [])
    refusals: list[tuple[int, Refused]] = []
    for line_no, line in enumerate(document.lines, start=1):
        item = line.item
        before = posting.levels.get(item) or levels[item]
        try:
            released = _released(document, line, before, newest_holds.get(item, ()))
            freed = stock.release(before, sum(units for _, units in released)) if released else before
            after = stock.move(freed, _change(line, freed), from_reserved=document.reservation_id is not None)
        except Refused as refusal:
            refusals.append((line_no, refusal))
            continue
        posting.levels[item] = after
        posting.released.extend(released)
        posting.entries.append(_entry(line_no, line, freed, after))
    if refusals:
        raise _joined(refusals)
    return posting


def reversal(original: TransactionType, entries: Sequence[Entry]) -> tuple[TransactionType, list[Line]]:
    """The type and lines that take posted entries back, the last one first.

    The type is one whose sign and demand fit: a sale is taken back as a return and a return as a sale, so that demand
    nets to zero; a transfer as a transfer; everything else as an adjustment.
    """
    lines = [
        Line(entry.sku, entry.warehouse_id, -entry.quantity_change, None, None, entry.unit_cost, entry.unit_price)
        for entry in reversed(entries)
        if entry.quantity_change
    ]
    return _REVERSAL_TYPE.get(original, TransactionType.ADJUSTMENT), lines


def _check_kind_of_lines(document: Document) -> None:
    counting = document.transaction_type is TransactionType.COUNT
    faults = []
    for index, line in enumerate(document.lines):
        if counting and (line.counted_quantity is None or line.quantity_change is not None):
            faults.append(fault(f"/lines/{index}", "A count line takes countedQuantity and no quantityChange"))
        elif not counting and (line.quantity_change is None or line.counted_quantity is not None):
            faults.append(fault(f"/lines/{index}", "Takes quantityChange and no countedQuantity"))
        elif not counting and line.expected_quantity is not None:
            faults.append(fault(f"/lines/{index}/expectedQuantity", "Only a count line takes expectedQuantity"))
    if counting and len(set(document.items)) < len(document.lines):
        faults.append(fault("/lines", "A count names each stock item once"))
    if faults:
        raise WrongLine(f"{document.transaction_type} does not take these lines; faults: {len(faults)}", faults)


def _check_signs(document: Document) -> None:
    kind = document.transaction_type
    faults = []
    for index, line in enumerate(document.lines):
        change = line.quantity_change
        if change is None:
            continue
        if change == 0 or (change < 0 and kind in _INBOUND) or (change > 0 and kind in _OUTBOUND):
            wanted = "positive" if kind in _INBOUND else "negative" if kind in _OUTBOUND else "non-zero"
            detail = f"{kind} takes a {wanted} quantityChange, not {change}"
            faults.append(fault(f"/lines/{index}/quantityChange", detail))
    if faults:
        raise WrongSign(faults[0]["detail"], faults)


def _check_transfer(lines: Sequence[Line]) -> None:
    sums: dict[str, int] = defaultdict(int)
    for line in lines:
        sums[line.sku] += line.quantity_change or 0
    unbalanced = {sku: total for sku, total in sums.items() if total}
    if unbalanced:
        faults = [fault("/lines", f"{sku}: lines sum to {total}, not 0") for sku, total in unbalanced.items()]
        raise UnbalancedTransfer(faults[0]["detail"], faults)
    warehouses: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        warehouses[line.sku].add(line.warehouse_id)
    faults = [fault("/lines", f"{sku} stays in {names.pop()}") for sku, names in warehouses.items() if len(names) == 1]
    if faults:
        raise WrongLine(f"A transfer moves stock between warehouses: {faults[0]['detail']}", faults)


def _unusable(item: StockItem, catalogued: Catalogued) -> Refused:
    if catalogued.product_status is None:
        return UnknownProduct(f"There is no product {item.sku}")
    if catalogued.warehouse_status is None:
        return UnknownWarehouse(f"There is no warehouse {item.warehouse_id}")
    return Archived(f"{item} is archived")


def _change(line: Line, level: StockLevel) -> int:
    if line.quantity_change is not None:
        return line.quantity_change
    if line.expected_quantity is not None and line.expected_quantity != level.quantity_on_hand:
        raise CountConflict(f"{level.item}: {line.expected_quantity} expected, {level.quantity_on_hand} on hand")
    return (line.counted_quantity or 0) - level.quantity_on_hand


def _released(
    document: Document, line: Line, level: StockLevel, newest_holds: Sequence[Hold]
) -> list[tuple[Hold, int]]:
    """The holds that end because a count found fewer units than are promised."""
    counted = line.counted_quantity
    if counted is None or counted >= level.quantity_reserved:
        return []
    if document.on_shortfall is OnShortfall.RELEASE_NEWEST:
        return reservation.give_up(newest_holds, level.quantity_reserved - counted)
    holders = ", ".join(f"{hold.outstanding} by {hold.reservation_id}" for hold in newest_holds[:MOST_HOLDERS_NAMED])
    raise ReservedExceedsCount(f"{level.item}: {counted} counted, {level.quantity_reserved} reserved ({holders})")


def _entry(line_no: int, line: Line, before: StockLevel, after: StockLevel) -> Entry:
    return Entry(
        line_no,
        line.sku,
        line.warehouse_id,
        after.quantity_on_hand - before.quantity_on_hand,
        before.quantity_on_hand,
        after.quantity_on_hand,
        after.quantity_reserved,
        after.sequence,
        after.revision,
        line.unit_cost,
        line.unit_price,
    )


def _joined(refusals: Iterable[tuple[int, Refused]]) -> Refused:
    """One refusal of the first one's class that lists every line of that class."""
    ordered = list(refusals)
    kind = type(ordered[0][1])
    faults = [fault(f"/lines/{line_no - 1}", str(error)) for line_no, error in ordered if type(error) is kind]
    detail = str(ordered[0][1]) if len(faults) == 1 else f"{ordered[0][1]} (and {len(faults) - 1} more)"
    return kind(detail, faults)
