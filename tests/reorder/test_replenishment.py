"""When to order and how much."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reorder import replenishment
from services.reorder.replenishment import Demand, MinMax, PolicyKind, PolicySource, Stock, recommend

UNITS = st.integers(min_value=0, max_value=10**12)


def stock(on_hand: int, reserved: int = 0, on_order: int = 0) -> Stock:
    return Stock(on_hand, reserved, on_order)


def test_nothing_is_ordered_above_the_reorder_point() -> None:
    assert recommend(stock(11), MinMax(10, 50), None) is None


def test_at_the_reorder_point_the_position_is_lifted_to_order_up_to() -> None:
    advice = recommend(stock(10), MinMax(10, 50), None)

    assert advice is not None
    assert advice.recommended_quantity == 40


def test_reserved_units_count_against_the_position_and_units_on_order_for_it() -> None:
    advice = recommend(stock(on_hand=20, reserved=15, on_order=3), MinMax(10, 50), None)

    assert advice is not None
    assert advice.inventory_position == 8
    assert advice.recommended_quantity == 42


def test_without_policy_nothing_is_ordered() -> None:
    assert recommend(stock(0), None, None) is None


@given(on_hand=UNITS, on_order=UNITS, reorder_point=UNITS, lift=st.integers(min_value=1, max_value=10**12))
def test_an_order_always_lifts_the_position_exactly_to_order_up_to(
    on_hand: int, on_order: int, reorder_point: int, lift: int
) -> None:
    policy = MinMax(reorder_point, reorder_point + lift)
    advice = recommend(stock(on_hand, on_order=on_order), policy, None)

    assert (advice is None) == (on_hand + on_order > reorder_point)
    if advice:
        assert advice.inventory_position + advice.recommended_quantity == policy.order_up_to


def test_the_explanation_names_every_input_and_step() -> None:
    demand = Demand(date(2026, 3, 1), {30: 2.5, 7: 4.0})
    advice = recommend(stock(20, 15, 3), MinMax(10, 50), demand)

    assert advice is not None
    assert advice.explanation == {
        "formula": "min_max",
        "source": "policy",
        "inputs": {
            "quantityOnHand": 20,
            "quantityReserved": 15,
            "quantityOnOrder": 3,
            "reorderPoint": 10,
            "orderUpTo": 50,
        },
        "steps": [
            {"name": "inventoryPosition", "formula": "quantityOnHand + quantityOnOrder - quantityReserved", "value": 8},
            {"name": "trigger", "formula": "inventoryPosition <= reorderPoint", "value": True},
            {"name": "recommendedQuantity", "formula": "orderUpTo - inventoryPosition", "value": 42},
        ],
        "demand": {
            "asOf": "2026-03-01",
            "windows": [{"days": 7, "velocityPerDay": 4.0}, {"days": 30, "velocityPerDay": 2.5}],
        },
    }


def test_thresholds_of_a_stock_level_act_as_min_max() -> None:
    assert replenishment.thresholds_as_policy(10, 40) == MinMax(10, 50, PolicySource.THRESHOLDS)


@pytest.mark.parametrize(("reorder_point", "reorder_quantity"), [(None, 40), (10, None), (10, 0)])
def test_thresholds_that_order_nothing_are_no_policy(reorder_point: int | None, reorder_quantity: int | None) -> None:
    assert replenishment.thresholds_as_policy(reorder_point, reorder_quantity) is None


@pytest.mark.parametrize("kind", [kind for kind in PolicyKind if kind != PolicyKind.MIN_MAX])
def test_kinds_without_a_rule_are_refused_by_name(kind: PolicyKind) -> None:
    with pytest.raises(replenishment.PolicyKindNotSupported, match=f"{kind} are not supported yet; supported: min_max"):
        replenishment.check_policy(kind, 10, 50)


def test_an_order_up_to_that_orders_nothing_is_refused() -> None:
    with pytest.raises(replenishment.OrderUpToTooLow, match="orderUpTo 10 must be above reorderPoint 10"):
        replenishment.check_policy(PolicyKind.MIN_MAX, 10, 10)
