"""How events change a position, in whatever order they come."""

from itertools import permutations

from services.reorder.inventory_position import InventoryPosition, PositionEvent, apply
from tests.reorder.factories import WIDGET, a_ledger_entry, a_level_change, a_velocity

EMPTY = InventoryPosition(WIDGET)


def test_the_highest_revision_wins_in_any_order() -> None:
    events: list[PositionEvent] = [
        a_ledger_entry(10, sequence=1, revision=1),
        a_level_change(10, revision=2, reserved=3, reorder_point=5, reorder_quantity=20),
        a_ledger_entry(8, sequence=2, revision=3, reserved=3),
        a_velocity(1.5),
    ]

    ends = {repr(apply(EMPTY, order)) for order in permutations(events)}

    assert len(ends) == 1
    end = apply(EMPTY, events)
    assert (end.stock.quantity_on_hand, end.stock.quantity_reserved) == (8, 3)
    assert (end.reorder_point, end.reorder_quantity) == (5, 20)
    assert end.seen.last == 2
    assert end.demand is not None
    assert end.demand.velocity_per_day == {7: 1.5}


def test_repeats_change_nothing() -> None:
    once = apply(EMPTY, [a_ledger_entry(10)])

    assert apply(once, [a_ledger_entry(10)]) == once


def test_a_gap_is_remembered() -> None:
    assert apply(EMPTY, [a_ledger_entry(7, sequence=4)]).seen.missing == ((1, 4),)
