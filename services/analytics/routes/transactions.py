"""Transaction history from MongoDB."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query

from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging
from libs.events.envelope import Instant
from libs.events.inventory import TransactionType
from services.analytics.filters import ItemFilter
from services.analytics.routes.parameters import History, VisibleItems, sort_key

router = APIRouter(prefix="/api/v1/transactions", tags=["transactions"])


class TransactionLineOut(ApiModel):
    """One line of a stock transaction."""

    line_no: int
    sku: str
    warehouse_id: str
    quantity_change: int
    sequence: int
    unit_cost: Decimal | None
    unit_price: Decimal | None


class TransactionOut(ApiModel):
    """A posted stock transaction. Instants are exact to the millisecond; inventory keeps the microseconds."""

    transaction_id: str
    transaction_type: TransactionType
    reference_id: str | None
    notes: str | None
    actor: str
    source: str
    occurred_at: datetime
    recorded_at: datetime
    reverses_id: str | None
    quantity_change: int
    line_count: int
    lines: list[TransactionLineOut]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "TransactionOut":
        """The transaction in a document."""
        content = {name: value for name, value in document.items() if name != "_id"}
        content["transactionType"] = TransactionType(content["transactionType"])
        return cls(**content)


@router.get("")
async def list_transactions(
    history: History,
    paging: Paging,
    items: VisibleItems,
    transaction_type: Annotated[TransactionType | None, Query(alias="transactionType")] = None,
    reference_id: Annotated[str | None, Query(alias="referenceId", max_length=256)] = None,
    occurred_from: Annotated[Instant | None, Query(alias="occurredFrom")] = None,
    occurred_to: Annotated[Instant | None, Query(alias="occurredTo", description="Exclusive.")] = None,
) -> Page[TransactionOut]:
    """Posted stock transactions, the latest first. `sku` and `warehouseId` find those with a matching line."""
    condition = _lines(items) | _between(occurred_from, occurred_to)
    if transaction_type is not None:
        condition["transactionType"] = transaction_type.value
    if reference_id is not None:
        condition["referenceId"] = reference_id
    documents = await history.transactions(condition, sort_key(paging, datetime, str), paging.limit + 1)
    return paging.page(documents, ("occurredAt", "_id"), TransactionOut.of)


def _lines(items: ItemFilter) -> dict[str, Any]:
    """Documents with a line of these stock items. A caller with few warehouses sees no document that touches others."""
    line: dict[str, Any] = {}
    if items.sku is not None:
        line["sku"] = items.sku
    if items.warehouse_id is not None:
        line["warehouseId"] = items.warehouse_id
    condition: dict[str, Any] = {"lines": {"$elemMatch": line}} if line else {}
    if items.visible_warehouses is not None:
        hidden = {"lines": {"$elemMatch": {"warehouseId": {"$nin": sorted(items.visible_warehouses)}}}}
        condition["$nor"] = [hidden]
    return condition


def _between(start: datetime | None, end: datetime | None) -> dict[str, Any]:
    bounds = {"$gte": start, "$lt": end}
    given = {operator: bound for operator, bound in bounds.items() if bound is not None}
    return {"occurredAt": given} if given else {}
