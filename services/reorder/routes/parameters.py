"""Parameters that the routes share: who calls, and which stock items they ask for."""

from typing import Annotated

from fastapi import Depends, Query

from libs.chassis.auth import Principal, require
from libs.events.envelope import Sku, WarehouseId
from services.reorder.queries.items import ItemFilter

Reader = Annotated[Principal, require("reorder:read")]
Planner = Annotated[Principal, require("reorder:write")]


async def _item_filter(
    principal: Reader,
    sku: Annotated[Sku | None, Query()] = None,
    warehouse_id: Annotated[WarehouseId | None, Query(alias="warehouseId")] = None,
) -> ItemFilter:
    return ItemFilter(sku, warehouse_id, principal.warehouses)


VisibleItems = Annotated[ItemFilter, Depends(_item_filter)]
"""The stock items asked for, as far as the caller may see them."""
