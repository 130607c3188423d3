"""Parameters that the routes share: who calls, which stock items they ask for, and the stores that answer."""

from typing import Annotated, Any

from fastapi import Depends, Query, Request

from libs.chassis.auth import Principal, require
from libs.chassis.paging import PageRequest
from libs.chassis.problems import Problem
from libs.events.envelope import Sku, WarehouseId
from services.analytics.cache import Cache
from services.analytics.documents import DocumentStore
from services.analytics.filters import ItemFilter

Reader = Annotated[Principal, require("analytics:read")]

WarehouseQuery = Annotated[WarehouseId | None, Query(alias="warehouseId")]


async def _item_filter(
    principal: Reader, sku: Annotated[Sku | None, Query()] = None, warehouse_id: WarehouseQuery = None
) -> ItemFilter:
    return ItemFilter(sku, warehouse_id, principal.warehouses)


async def _warehouse_filter(principal: Reader, warehouse_id: WarehouseQuery = None) -> ItemFilter:
    return ItemFilter(None, warehouse_id, principal.warehouses)


async def _history(request: Request) -> DocumentStore:
    store: DocumentStore = request.app.state.history
    return store


async def _cache(request: Request) -> Cache:
    cache: Cache = request.app.state.cache
    return cache


VisibleItems = Annotated[ItemFilter, Depends(_item_filter)]
"""The stock items asked for, as far as the caller may see them."""

VisibleWarehouses = Annotated[ItemFilter, Depends(_warehouse_filter)]
"""The warehouses asked for, as far as the caller may see them."""


def sort_key(paging: PageRequest, *types: type) -> tuple[Any, ...] | None:
    """The sort key that the page comes after, None for the first page. A `Problem` 400 unless it has these types."""
    after = paging.after
    if after is None or list(map(type, after)) == list(types):
        return after
    raise Problem(400, "invalid-cursor", "The cursor is not one that this list gave. Start again without a cursor.")


History = Annotated[DocumentStore, Depends(_history)]
AnswerCache = Annotated[Cache, Depends(_cache)]
