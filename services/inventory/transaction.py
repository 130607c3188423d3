"""Rules of stock transactions: documents whose lines move stock, all of them or none. No I/O."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from libs.events.inventory import TransactionType
from services.inventory import stock
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
)
from services.inventory.stock import StockItem, StockLevel

MOST_AHEAD = timedelta(minutes=5)
"""How far `occurred_at` may lie ahead of our clock: clocks differ, the future does not happen yet."""

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
    def items(self) -> set[StockItem]:
        return {line.item for line in self.lines}


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
    """What a document does: its ledger entries, and the levels of its stock items afterwards."""

    entries: list[Entry]
    levels: dict[StockItem, StockLevel]


def check(document: Document, now: datetime) -> None:
    """Refuse a document that is wrong in itself, whatever the stock is; every faulty line is named."""
    if document.occurred_at is not None and document.occurred_at > now + MOST_AHEAD:
        detail = f"occurredAt {document.occurred_at.isoformat()} lies more than 5 minutes ahead"
        raise OccurredInFuture(detail, [_fault("/occurredAt", detail)])
    if document.transaction_type is TransactionType.ADJUSTMENT and not (document.reason or document.reverses_id):
        raise ReasonMissing("An adjustment needs a reason", [_fault("/reason", "Say why the stock is adjusted")])
    _check_kind_of_lines(document)
    _check_signs(document)
    if document.transaction_type is TransactionType.TRANSFER:
        _check_transfer(document.lines)


def check_items(document: Document, unusable: Mapping[StockItem, Catalogued]) -> None:
    """Refuse a document with lines whose product or warehouse is unknown or archived; every such line is named."""
    refusals: list[tuple[int, Refused]] = []
    for line_no, line in enumerate(document.lines, start=1):
        if (catalogued := unusable.get(line.item)) is not None:
            refusals.append((line_no, _unusable(line, catalogued)))
    if refusals:
        raise _joined(refusals)


def post(document: Document, levels: Mapping[StockItem, StockLevel]) -> Posting:
    """The document's effect, lines of one stock item in line order, every running balance enforced.

    Raises InsufficientStock with every short line, CountConflict, ReservedExceedsCount, QuantityOutOfRange.
    """
    after: dict[StockItem, StockLevel] = {}
    entries: list[Entry] = []
    refusals: list[tuple[int, Refused]] = []
    from_reserved = document.reservation_id is not None
    for line_no, line in enumerate(document.lines, start=1):
        item = line.item
        before = after.get(item) or levels[item]
        try:
            change = _change(line, before)
            level = stock.move(before, change, from_reserved=from_reserved)
        except Refused as refusal:
            refusals.append((line_no, refusal))
            continue
        after[item] = level
        entries.append(_entry(line_no, line, before, level))
    if refusals:
        raise _joined(refusals)
    return Posting(entries, after)


def reversal_type(transaction_type: TransactionType) -> TransactionType:
    """The type of the document that takes a transaction back: one whose sign and demand fit.

    A sale is taken back as a return and a return as a sale, so that demand nets to zero; a transfer as a transfer;
    everything else as an adjustment.
    """
    return {
        TransactionType.SALE: TransactionType.RETURN,
        TransactionType.RETURN: TransactionType.SALE,
        TransactionType.TRANSFER: TransactionType.TRANSFER,
    }.get(transaction_type, TransactionType.ADJUSTMENT)


def _check_kind_of_lines(document: Document) -> None:
    counting = document.transaction_type is TransactionType.COUNT
    faults = []
    for index, line in enumerate(document.lines):
        if counting and (line.counted_quantity is None or line.quantity_change is not None):
            faults.append(_fault(f"/lines/{index}", "A count line takes countedQuantity and no quantityChange"))
        elif not counting and (line.quantity_change is None or line.counted_quantity is not None):
            faults.append(_fault(f"/lines/{index}", "Takes quantityChange and no countedQuantity"))
        elif not counting and line.expected_quantity is not None:
            faults.append(_fault(f"/lines/{index}/expectedQuantity", "Only a count line takes expectedQuantity"))
    if faults:
        raise WrongLine(f"{len(faults)} lines do not fit {document.transaction_type}", faults)


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
            faults.append(_fault(f"/lines/{index}/quantityChange", detail))
    if faults:
        raise WrongSign(faults[0]["detail"], faults)


def _check_transfer(lines: Sequence[Line]) -> None:
    sums: dict[str, int] = defaultdict(int)
    for line in lines:
        sums[line.sku] += line.quantity_change or 0
    unbalanced = {sku: total for sku, total in sums.items() if total}
    if unbalanced:
        faults = [_fault("/lines", f"{sku}: lines sum to {total}, not 0") for sku, total in unbalanced.items()]
        raise UnbalancedTransfer(faults[0]["detail"], faults)


def _unusable(line: Line, catalogued: Catalogued) -> Refused:
    if catalogued.product_status is None:
        return UnknownProduct(f"There is no product {line.sku}")
    if catalogued.warehouse_status is None:
        return UnknownWarehouse(f"There is no warehouse {line.warehouse_id}")
    return Archived(f"{line.item} is archived")


def _change(line: Line, level: StockLevel) -> int:
    if line.quantity_change is not None:
        return line.quantity_change
    counted, expected = line.counted_quantity or 0, line.expected_quantity
    if expected is not None and expected != level.quantity_on_hand:
        raise CountConflict(f"{level.item}: {expected} expected, {level.quantity_on_hand} on hand")
    if counted < level.quantity_reserved:
        raise ReservedExceedsCount(f"{level.item}: {counted} counted, {level.quantity_reserved} reserved")
    return counted - level.quantity_on_hand


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
    faults = [_fault(f"/lines/{line_no - 1}", str(error)) for line_no, error in ordered if type(error) is kind]
    detail = str(ordered[0][1]) if len(faults) == 1 else f"{ordered[0][1]} (and {len(faults) - 1} more lines)"
    return kind(detail, faults)


def _fault(pointer: str, detail: str) -> dict[str, Any]:
    return {"pointer": pointer, "detail": detail}
