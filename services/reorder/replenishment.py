"""When to order and how much. Quantities are whole base units, so every figure here is exact.

The model is continuous review with (s, S): order when the inventory position is at or below the reorder point s, and
order up to S. Source: Silver, Pyke & Thomas (2017), Inventory and Production Management in Supply Chains, ch. 6.
"""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any


class PolicyKind(StrEnum):
    """How a reorder policy decides."""

    MIN_MAX = "min_max"
    REORDER_POINT_FIXED_QUANTITY = "reorder_point_fixed_quantity"
    REORDER_POINT_EOQ = "reorder_point_eoq"
    PERIODIC_ORDER_UP_TO = "periodic_order_up_to"
    DAYS_OF_SUPPLY = "days_of_supply"
    SERVICE_LEVEL = "service_level"
    MANUAL = "manual"


SUPPORTED_KINDS = (PolicyKind.MIN_MAX,)


class PolicyKindNotSupported(Exception):
    """The kind is part of the model, but no rule decides by it yet."""


class OrderUpToTooLow(Exception):
    """An order-up-to level at or below the reorder point would order nothing, for ever."""


class PolicySource(StrEnum):
    """Where a policy comes from."""

    POLICY = "policy"
    THRESHOLDS = "thresholds"


@dataclass(frozen=True, slots=True)
class MinMax:
    """Order when the inventory position is at or below `reorder_point`, up to `order_up_to`."""

    reorder_point: int
    order_up_to: int
    source: PolicySource = PolicySource.POLICY


@dataclass(frozen=True, slots=True)
class Stock:
    """What is there, what is promised and what is coming, in units."""

    quantity_on_hand: int
    quantity_reserved: int
    quantity_on_order: int

    @property
    def inventory_position(self) -> int:
        """On hand + on order - reserved: what future demand can still take."""
        return self.quantity_on_hand + self.quantity_on_order - self.quantity_reserved


@dataclass(frozen=True, slots=True)
class Demand:
    """Latest known demand of a stock item: units per day by window length in days."""

    as_of: date
    velocity_per_day: dict[int, float]


@dataclass(frozen=True, slots=True)
class Advice:
    """What to order now, and why."""

    recommended_quantity: int
    inventory_position: int
    reorder_point: int
    explanation: dict[str, Any]


def check_policy(kind: PolicyKind, reorder_point: int, order_up_to: int) -> None:
    """Raise PolicyKindNotSupported or OrderUpToTooLow when no order could follow from the policy."""
    if kind not in SUPPORTED_KINDS:
        supported = ", ".join(SUPPORTED_KINDS)
        raise PolicyKindNotSupported(f"Policies of kind {kind} are not supported yet; supported: {supported}.")
    if order_up_to <= reorder_point:
        raise OrderUpToTooLow(f"orderUpTo {order_up_to} must be above reorderPoint {reorder_point}.")


def thresholds_as_policy(reorder_point: int | None, reorder_quantity: int | None) -> MinMax | None:
    """The policy that a stock level's own thresholds amount to; None while they are unset or order nothing."""
    if reorder_point is None or not reorder_quantity:
        return None
    return MinMax(reorder_point, reorder_point + reorder_quantity, PolicySource.THRESHOLDS)


def recommend(stock: Stock, policy: MinMax | None, demand: Demand | None) -> Advice | None:
    """What to order now, or None while the inventory position is above the reorder point.

    Demand does not change the figure of a min/max policy; it is told in the explanation.
    """
    if policy is None or stock.inventory_position > policy.reorder_point:
        return None
    return Advice(
        recommended_quantity=policy.order_up_to - stock.inventory_position,
        inventory_position=stock.inventory_position,
        reorder_point=policy.reorder_point,
        explanation=_explain(stock, policy, demand),
    )


def _explain(stock: Stock, policy: MinMax, demand: Demand | None) -> dict[str, Any]:
    position = stock.inventory_position
    return {
        "formula": PolicyKind.MIN_MAX.value,
        "source": policy.source.value,
        "inputs": {
            "quantityOnHand": stock.quantity_on_hand,
            "quantityReserved": stock.quantity_reserved,
            "quantityOnOrder": stock.quantity_on_order,
            "reorderPoint": policy.reorder_point,
            "orderUpTo": policy.order_up_to,
        },
        "steps": [
            _step("inventoryPosition", "quantityOnHand + quantityOnOrder - quantityReserved", position),
            _step("trigger", "inventoryPosition <= reorderPoint", True),
            _step("recommendedQuantity", "orderUpTo - inventoryPosition", policy.order_up_to - position),
        ],
        "demand": _explain_demand(demand),
    }


def _step(name: str, formula: str, value: int | bool) -> dict[str, Any]:
    return {"name": name, "formula": formula, "value": value}


def _explain_demand(demand: Demand | None) -> dict[str, Any] | None:
    if demand is None:
        return None
    windows = [{"days": days, "velocityPerDay": velocity} for days, velocity in sorted(demand.velocity_per_day.items())]
    return {"asOf": demand.as_of.isoformat(), "windows": windows}
