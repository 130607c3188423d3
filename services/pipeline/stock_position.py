"""What the stream knows of a stock item: which ledger entries it has counted, and how much stock there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from operator import attrgetter
from typing import Final

from libs.events import sequence
from libs.events.inventory import InventoryUpdate, StockLevelChange
from libs.events.sequence import Range, Seen

NOTHING_SEEN: Final = Seen()
_revision = attrgetter("revision")
_timestamp = attrgetter("timestamp")


@dataclass(frozen=True, slots=True)
class StockPosition:
    """A stock item after everything applied so far."""

    sku: str
    warehouse_id: str
    seen: Seen = NOTHING_SEEN
    revision: int = 0
    quantity_on_hand: int = 0
    quantity_reserved: int = 0
    threshold_revision: int = 0
    reorder_point: int | None = None
    reorder_quantity: int | None = None
    last_movement_date: date | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """What some events did to a position."""

    position: StockPosition
    accepted: Sequence[InventoryUpdate]
    """The ledger entries that had not been counted yet."""
    late: int
    gaps: tuple[Range, ...]


def apply(position: StockPosition, entries: Sequence[InventoryUpdate], changes: Sequence[StockLevelChange]) -> Applied:
    """Count each ledger entry once, by sequence; take the quantities of the highest revision."""
    admission = sequence.admit(position.seen, [entry.sequence for entry in entries])
    accepted = entries
    if not all(admission.accepted):
        accepted = [entry for entry, new in zip(entries, admission.accepted, strict=True) if new]
    events: list[InventoryUpdate | StockLevelChange] = [*entries, *changes]
    level = max(events, key=_revision)
    is_newer = level.revision >= position.revision
    threshold_revision, reorder_point, reorder_quantity = _thresholds(position, changes)
    return Applied(
        StockPosition(
            sku=position.sku,
            warehouse_id=position.warehouse_id,
            seen=admission.seen,
            revision=level.revision if is_newer else position.revision,
            quantity_on_hand=level.quantity_on_hand if is_newer else position.quantity_on_hand,
            quantity_reserved=level.quantity_reserved if is_newer else position.quantity_reserved,
            threshold_revision=threshold_revision,
            reorder_point=reorder_point,
            reorder_quantity=reorder_quantity,
            last_movement_date=_last_movement_date(position.last_movement_date, accepted),
        ),
        accepted,
        admission.late,
        admission.gaps,
    )


def _thresholds(position: StockPosition, changes: Sequence[StockLevelChange]) -> tuple[int, int | None, int | None]:
    """Revision, reorder point and reorder quantity; only level changes carry them, so they have their own revision."""
    latest = max(changes, key=_revision, default=None)
    if latest is None or latest.revision < position.threshold_revision:
        return position.threshold_revision, position.reorder_point, position.reorder_quantity
    return latest.revision, latest.reorder_point, latest.reorder_quantity


def _last_movement_date(known: date | None, accepted: Sequence[InventoryUpdate]) -> date | None:
    if not accepted:
        return known
    latest: date = max(map(_timestamp, accepted)).date()
    return latest if known is None else max(known, latest)
