"""Inventory positions: what reorder knows of each stock item."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from libs.chassis.database import ReadConnection
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging
from libs.events.envelope import JsonObject, Sku, WarehouseId
from services.reorder.queries import positions
from services.reorder.routes.parameters import VisibleItems

router = APIRouter(prefix="/api/v1/inventory-positions", tags=["inventory positions"])


class InventoryPositionOut(ApiModel):
    """One stock item as the events so far tell it."""

    sku: Sku
    warehouse_id: WarehouseId
    quantity_on_hand: int
    quantity_reserved: int
    quantity_on_order: int
    inventory_position: Annotated[int, Field(description="On hand + on order - reserved.")]
    reorder_point: Annotated[int | None, Field(description="The stock level's own threshold; a policy wins over it.")]
    reorder_quantity: int | None
    demand: Annotated[JsonObject | None, Field(description="Latest known units per day, by window length in days.")]
    last_sequence: Annotated[int, Field(description="Highest ledger entry applied.")]
    revision: Annotated[int, Field(description="Revision of the stock level applied last; 0 while none is known.")]
    updated_at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "InventoryPositionOut":
        """The position in a row."""
        return cls(**row)


@router.get("")
async def list_inventory_positions(
    connection: ReadConnection, paging: Paging, items: VisibleItems
) -> Page[InventoryPositionOut]:
    """Positions, in order of sku and warehouse."""
    rows = await positions.list_positions(connection, paging, items)
    return paging.page(rows, ("sku", "warehouse_id"), InventoryPositionOut.of)
