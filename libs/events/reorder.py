"""Events of the topic `reorder-events`, published by the reorder service."""

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from libs.events.envelope import (
    Count,
    Event,
    JsonObject,
    Number,
    Sku,
    SmallNumber,
    StockItemEvent,
    Units,
    WarehouseId,
    WireModel,
)


class _Recommendation(StockItemEvent):
    quantity_change: Literal[0] = 0
    recommendation_id: UUID
    revision: Number
    recommended_quantity: Annotated[int, Field(gt=0, lt=2**63)]
    inventory_position: Units
    reorder_point: Units
    supplier_id: str | None
    explanation: Annotated[JsonObject, Field(description="Every input, the formula's name and each rounding step.")]


class ReorderTriggered(_Recommendation):
    """The inventory position of a stock item fell to its reorder point or below."""

    event_type: Literal["REORDER_TRIGGERED"] = "REORDER_TRIGGERED"


class ReorderRecommendation(_Recommendation):
    """What to order now, or a new figure for an open recommendation."""

    event_type: Literal["REORDER_RECOMMENDATION"] = "REORDER_RECOMMENDATION"


class PurchaseOrderStatus(StrEnum):
    """Where a purchase order stands."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    APPROVED = "approved"
    PLACED = "placed"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class PurchaseOrderLine(WireModel):
    """One line of a purchase order, in base units."""

    line_no: SmallNumber
    sku: Sku
    warehouse_id: WarehouseId
    quantity_ordered: Annotated[int, Field(gt=0, lt=2**63)]
    quantity_received: Count = 0
    quantity_cancelled: Count = 0


class PurchaseOrderEvent(Event):
    """A step in the life of a purchase order."""

    event_type: Literal[
        "PURCHASE_ORDER_CREATED",
        "PURCHASE_ORDER_APPROVED",
        "PURCHASE_ORDER_PLACED",
        "PURCHASE_ORDER_RECEIVED",
        "PURCHASE_ORDER_CLOSED",
        "PURCHASE_ORDER_CANCELLED",
    ]
    sku: None = None
    warehouse_id: None = None
    quantity_change: Literal[0] = 0
    purchase_order_id: UUID
    revision: Number
    status: PurchaseOrderStatus
    lines: list[PurchaseOrderLine]

    @property
    def key(self) -> str:
        return str(self.purchase_order_id)


ReorderEvent = Annotated[
    ReorderTriggered | ReorderRecommendation | PurchaseOrderEvent, Field(discriminator="event_type")
]
