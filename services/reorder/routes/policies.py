"""Reorder policies: how each stock item is replenished."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import Field

from libs.chassis import etag
from libs.chassis.database import ReadConnection, WriteConnection
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging
from libs.chassis.replay import mark_replayed
from libs.events.envelope import Count, Sku, WarehouseId
from services.reorder import planning
from services.reorder.queries import policies
from services.reorder.recommendation import StockItem
from services.reorder.replenishment import PolicyKind
from services.reorder.routes.parameters import Planner, Reader, VisibleItems

router = APIRouter(prefix="/api/v1/reorder-policies", tags=["reorder policies"])

WarehouseInPath = Annotated[WarehouseId, Path(alias="warehouseId")]
ReorderPoint = Annotated[Count, Field(description="Order when the inventory position is at or below this.")]
OrderUpTo = Annotated[Count, Field(description="Order as much as lifts the inventory position to this.")]


class ReorderPolicyIn(ApiModel):
    """A policy for one stock item."""

    sku: Sku
    warehouse_id: WarehouseId
    kind: PolicyKind = PolicyKind.MIN_MAX
    reorder_point: ReorderPoint
    order_up_to: OrderUpTo


class ReorderPolicyPatch(ApiModel):
    """What to change; what is left out or null stays as it is."""

    kind: PolicyKind | None = None
    reorder_point: ReorderPoint | None = None
    order_up_to: OrderUpTo | None = None


class ReorderPolicyOut(ApiModel):
    """A policy as it stands. Its ETag is the version."""

    sku: Sku
    warehouse_id: WarehouseId
    kind: PolicyKind
    reorder_point: int
    order_up_to: int
    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "ReorderPolicyOut":
        """The policy in a row."""
        return cls(**{**row, "kind": PolicyKind(row["kind"])})


@router.post("", status_code=201)
async def create_reorder_policy(
    body: ReorderPolicyIn, response: Response, connection: WriteConnection, principal: Planner
) -> ReorderPolicyOut:
    """Create the policy of a stock item, and evaluate the item at once.

    Only `kind: min_max` is supported now. Repeating the same body changes nothing and answers 200 with
    `Idempotent-Replayed: true`; another body for the same stock item is a 409 `already-exists`.
    """
    principal.check_warehouses(body.warehouse_id)
    item = StockItem(body.sku, body.warehouse_id)
    row, created = await planning.create_policy(connection, item, body.kind, body.reorder_point, body.order_up_to)
    if not created:
        mark_replayed(response)
    return _answer(row, response)


@router.get("")
async def list_reorder_policies(
    connection: ReadConnection, paging: Paging, items: VisibleItems
) -> Page[ReorderPolicyOut]:
    """Policies, in order of sku and warehouse."""
    rows = await policies.list_policies(connection, paging, items)
    return paging.page(rows, ("sku", "warehouse_id"), ReorderPolicyOut.of)


@router.get("/{warehouseId}/{sku:path}")
async def get_reorder_policy(
    warehouse_id: WarehouseInPath, sku: Sku, response: Response, connection: ReadConnection, principal: Reader
) -> ReorderPolicyOut:
    """The policy of one stock item, with its ETag."""
    principal.check_warehouses(warehouse_id)
    return _answer(await planning.get_policy(connection, StockItem(sku, warehouse_id)), response)


@router.patch("/{warehouseId}/{sku:path}")
async def change_reorder_policy(
    warehouse_id: WarehouseInPath,
    sku: Sku,
    body: ReorderPolicyPatch,
    if_match: etag.IfMatch,
    response: Response,
    connection: WriteConnection,
    principal: Planner,
) -> ReorderPolicyOut:
    """Change a policy, and evaluate its stock item at once."""
    principal.check_warehouses(warehouse_id)
    current, held = await planning.hold_policy(connection, StockItem(sku, warehouse_id))
    etag.check(if_match, current["version"])
    changed = await planning.change_policy(connection, held, current, body.model_dump(exclude_none=True))
    return _answer(changed, response)


def _answer(row: Mapping[str, Any], response: Response) -> ReorderPolicyOut:
    response.headers["ETag"] = etag.etag(row["version"])
    return ReorderPolicyOut.of(row)
