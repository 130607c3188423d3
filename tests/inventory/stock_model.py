"""What the ledger should do, in plain Python: the model that random operations are compared with."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from uuid import UUID

from libs.events.inventory import TransactionType
from services.inventory.reservation import Share
from services.inventory.stock import StockItem
from services.inventory.transaction import Document, Line, OnShortfall


class Impossible(Exception):
    """The model refuses the operation."""


@dataclass(slots=True)
class HeldLine:
    """What one line of a reservation still holds."""

    item: StockItem
    outstanding: int


@dataclass(slots=True)
class Held:
    """A reservation. Overdue, it holds nothing any more."""

    lines: list[HeldLine]
    is_overdue: bool = False


@dataclass(slots=True)
class StockModel:
    """Units on hand and the signed changes of each stock item, reservations, and posted documents, oldest first."""

    changes: dict[StockItem, list[int]]
    held: dict[UUID, Held] = field(default_factory=dict)
    posted: dict[UUID, tuple[TransactionType, list[Line]]] = field(default_factory=dict)
    reversed: set[UUID] = field(default_factory=set)

    def on_hand(self, item: StockItem) -> int:
        return sum(self.changes[item])

    def reserved(self, item: StockItem) -> int:
        return sum(line.outstanding for line in self._holding(item))

    def available(self, item: StockItem) -> int:
        return self.on_hand(item) - self.reserved(item)

    def post(self, documents: Sequence[Document], *, all_or_nothing: bool = True) -> list[bool]:
        """Which of the documents are posted, in order."""
        before = deepcopy(self)
        accepted = [self._try(document) for document in documents]
        if all_or_nothing and not all(accepted):
            self._become(before)
            return [False] * len(documents)
        return accepted

    def reserve(self, reservation_id: UUID, shares: Sequence[Share], *, allow_partial: bool) -> None:
        """Hold what is asked, or what there is when a part will do."""
        held = self.held[reservation_id] = Held([])
        for share in shares:
            quantity = min(share.quantity, self.available(share.item))
            held.lines.append(HeldLine(share.item, quantity))
        wanted = [share.quantity for share in shares]
        got = [line.outstanding for line in held.lines]
        if got != wanted and not (allow_partial and any(got)):
            del self.held[reservation_id]
            raise Impossible

    def fulfil(self, reservation_id: UUID, document: Document) -> None:
        """Sell units of a reservation."""
        held = self.held[reservation_id]
        lines = document.lines or [
            Line(line.item.sku, line.item.warehouse_id, -line.outstanding) for line in held.lines if line.outstanding
        ]
        if held.is_overdue or not lines:
            raise Impossible
        before = deepcopy(self)
        try:
            self._take(reservation_id, [(line.item, -(line.quantity_change or 0)) for line in lines])
        except Impossible:
            self._become(before)
            raise
        for line in lines:
            self.changes[line.item].append(line.quantity_change or 0)
        self.posted[document.transaction_id] = TransactionType.SALE, list(lines)

    def release(self, reservation_id: UUID, shares: Sequence[Share]) -> None:
        """Give units of a reservation back, or all of them."""
        if not shares:
            for line in self.held[reservation_id].lines:
                line.outstanding = 0
            return
        if self.held[reservation_id].is_overdue:
            raise Impossible
        before = deepcopy(self)
        try:
            self._take(reservation_id, [(share.item, share.quantity) for share in shares])
        except Impossible:
            self._become(before)
            raise

    def reversal(self, transaction_id: UUID) -> list[Line]:
        """The lines that take a document back."""
        _, lines = self.posted[transaction_id]
        opposite = [
            Line(line.sku, line.warehouse_id, -line.quantity_change) for line in reversed(lines) if line.quantity_change
        ]
        if transaction_id in self.reversed or not opposite:
            raise Impossible
        return opposite

    def _try(self, document: Document) -> bool:
        before = deepcopy(self)
        done: list[Line] = []
        for line in document.lines:
            change = self._change(line, document.on_shortfall)
            if change is None or change < -self.available(line.item):
                self._become(before)
                return False
            self.changes[line.item].append(change)
            done.append(Line(line.sku, line.warehouse_id, change))
        self.posted[document.transaction_id] = document.transaction_type, done
        return True

    def _change(self, line: Line, on_shortfall: OnShortfall) -> int | None:
        """What a line changes; None when a count cannot be. Ends the newest holds where a count asks for it."""
        if line.counted_quantity is None:
            return line.quantity_change
        if line.expected_quantity not in {None, self.on_hand(line.item)}:
            return None
        too_many = self.reserved(line.item) - line.counted_quantity
        if too_many > 0:
            if on_shortfall is OnShortfall.REJECT:
                return None
            self._give_up(line.item, too_many)
        return line.counted_quantity - self.on_hand(line.item)

    def _give_up(self, item: StockItem, quantity: int) -> None:
        for held in reversed(self.held.values()):
            for line in () if held.is_overdue else held.lines:
                if line.item == item:
                    part = min(quantity, line.outstanding)
                    line.outstanding -= part
                    quantity -= part

    def _take(self, reservation_id: UUID, wanted: Iterable[tuple[StockItem, int]]) -> None:
        for item, quantity in wanted:
            for line in self.held[reservation_id].lines:
                if line.item == item:
                    part = min(quantity, line.outstanding)
                    line.outstanding -= part
                    quantity -= part
            if quantity:
                raise Impossible

    def _holding(self, item: StockItem) -> list[HeldLine]:
        return [line for held in self.held.values() if not held.is_overdue for line in held.lines if line.item == item]

    def _become(self, other: "StockModel") -> None:
        self.changes, self.held, self.posted, self.reversed = (
            other.changes,
            other.held,
            other.posted,
            other.reversed,
        )
