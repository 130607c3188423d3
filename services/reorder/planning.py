"""Changes that planners make, to policies and to recommendations, each with the evaluation that follows from it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from libs.chassis.database import Connection
from services.reorder import evaluation, replenishment
from services.reorder.inventory_position import InventoryPosition
from services.reorder.queries import catalogue, policies, positions, recommendations
from services.reorder.recommendation import Recommendation, StockItem
from services.reorder.replenishment import PolicyKind


class UnknownProduct(Exception):
    """The inventory service has no such product."""


class UnknownWarehouse(Exception):
    """The inventory service has no such warehouse."""


class PolicyExists(Exception):
    """The stock item has another policy."""


class PolicyNotFound(Exception):
    """The stock item has no policy of its own."""


class RecommendationNotFound(Exception):
    """There is no such recommendation."""


async def create_policy(
    connection: Connection, item: StockItem, kind: PolicyKind, reorder_point: int, order_up_to: int
) -> tuple[dict[str, Any], bool]:
    """The policy of a stock item and whether it is new; a new one is evaluated at once.

    Raises PolicyExists when the item has another policy, UnknownProduct or UnknownWarehouse.
    """
    replenishment.check_policy(kind, reorder_point, order_up_to)
    await _check_known(connection, item)
    held = await positions.hold_positions(connection, [item])
    created = await policies.insert_policy(connection, item, kind, reorder_point, order_up_to)
    if created:
        await evaluation.evaluate(connection, held)
        return created, True
    existing = await get_policy(connection, item)
    if (existing["kind"], existing["reorder_point"], existing["order_up_to"]) != (kind, reorder_point, order_up_to):
        raise PolicyExists(f"{item.sku} in {item.warehouse_id} has another policy already; change it with PATCH.")
    return existing, False


async def get_policy(connection: Connection, item: StockItem) -> dict[str, Any]:
    """The policy of a stock item. Raises PolicyNotFound."""
    if row := await policies.get_policy(connection, item):
        return row
    raise PolicyNotFound(f"{item.sku} in {item.warehouse_id} has no reorder policy.")


async def hold_policy(connection: Connection, item: StockItem) -> tuple[dict[str, Any], list[InventoryPosition]]:
    """The policy of a stock item, and its position, locked until the end of the transaction. Raises PolicyNotFound."""
    held = await positions.lock_positions(connection, [item])
    return await get_policy(connection, item), held


async def change_policy(
    connection: Connection, held: Sequence[InventoryPosition], current: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """The held policy with some fields changed; its stock item is evaluated at once."""
    wanted = {**current, **changes}
    kind, reorder_point, order_up_to = PolicyKind(wanted["kind"]), wanted["reorder_point"], wanted["order_up_to"]
    replenishment.check_policy(kind, reorder_point, order_up_to)
    row = await policies.update_policy(connection, held[0].item, kind, reorder_point, order_up_to)
    await evaluation.evaluate(connection, held)
    return row


async def hold_recommendation(connection: Connection, recommendation_id: UUID) -> Recommendation:
    """A recommendation that nobody else changes until the end of the transaction. Raises RecommendationNotFound."""
    item = await recommendations.item_of(connection, recommendation_id)
    if item:
        await positions.lock_positions(connection, [item])
    return await get_recommendation(connection, recommendation_id)


async def get_recommendation(connection: Connection, recommendation_id: UUID) -> Recommendation:
    """One recommendation. Raises RecommendationNotFound."""
    if found := await recommendations.get_recommendation(connection, recommendation_id):
        return found
    raise RecommendationNotFound(f"There is no recommendation {recommendation_id}.")


async def _check_known(connection: Connection, item: StockItem) -> None:
    product, warehouse = await catalogue.is_known(connection, item)
    if not product:
        raise UnknownProduct(f"There is no product {item.sku}.")
    if not warehouse:
        raise UnknownWarehouse(f"There is no warehouse {item.warehouse_id}.")
