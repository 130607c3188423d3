"""Rules of stock repairs: what a level should be by what it is derived from. No I/O."""

from dataclasses import dataclass
from uuid import UUID

from services.inventory.stock import StockItem, StockLevel


@dataclass(frozen=True, slots=True)
class Repair:
    """A repair that is asked for; with `undoes_id`, of an earlier repair."""

    repair_id: UUID
    reason: str
    actor: str
    request_hash: bytes
    plan_id: str | None = None
    undoes_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """A stock item by its ledger entries and its outstanding allocations."""

    on_hand: int
    reserved: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a repair changed of one level, which then stood at `revision`."""

    sku: str
    warehouse_id: str
    on_hand_before: int
    on_hand_after: int
    reserved_before: int
    reserved_after: int
    sequence_before: int
    sequence_after: int
    revision: int

    @property
    def item(self) -> StockItem:
        return StockItem(self.sku, self.warehouse_id)


def rebuilt(level: StockLevel, truth: Truth) -> Change | None:
    """The change that makes a level agree with the truth, or None when it does."""
    if (level.quantity_on_hand, level.quantity_reserved, level.sequence) == (
        truth.on_hand,
        truth.reserved,
        truth.sequence,
    ):
        return None
    return Change(
        level.sku,
        level.warehouse_id,
        level.quantity_on_hand,
        truth.on_hand,
        level.quantity_reserved,
        truth.reserved,
        level.sequence,
        truth.sequence,
        max(level.revision, truth.sequence) + 1,
    )


def restored(change: Change) -> Change:
    """The change that takes another one back."""
    return Change(
        change.sku,
        change.warehouse_id,
        change.on_hand_after,
        change.on_hand_before,
        change.reserved_after,
        change.reserved_before,
        change.sequence_after,
        change.sequence_before,
        change.revision + 1,
    )
