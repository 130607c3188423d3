"""Who may call: the scopes of the inventory service."""

from typing import Annotated, Any

from fastapi import Path
from sqlalchemy import ColumnElement, Table, exists, true

from libs.chassis.auth import Principal, require
from libs.chassis.problems import MEDIA_TYPE
from libs.events.envelope import Sku, WarehouseId

Reader = Annotated[Principal, require("inventory:read")]
Operator = Annotated[Principal, require("inventory:write")]
Repairer = Annotated[Principal, require("ops:repair")]

SkuInPath = Annotated[Sku, Path(description="May contain slashes.")]
WarehouseInPath = Annotated[WarehouseId, Path()]


def visible_items(principal: Principal, table: Table) -> ColumnElement[bool]:
    """Condition: the row's warehouse is one that the key may act on."""
    return true() if principal.warehouses is None else table.c.warehouse_id.in_(sorted(principal.warehouses))


def visible_documents(principal: Principal, document: Table, lines: Table) -> ColumnElement[bool]:
    """Condition: the key may act on every warehouse that the document's lines are about."""
    if principal.warehouses is None:
        return true()
    key = next(iter(document.primary_key)).name
    elsewhere = lines.c.warehouse_id.not_in(sorted(principal.warehouses))
    return ~exists().where(lines.c[key] == document.c[key], elsewhere)


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of the problems that a router answers beside those of every operation."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _REFUSED[status], "content": content} for status in statuses}


def leads_to(parameter: str, field: str, *operation_ids: str) -> dict[str, Any]:
    """OpenAPI links of an answer: the operations that take its `field` as their path `parameter`."""
    value = f"$response.body#/{field}"
    return {"links": {each: {"operationId": each, "parameters": {parameter: value}} for each in operation_ids}}


_REFUSED = {
    409: "The state of stock or of the resource does not allow it",
    410: "The reservation is overdue",
    412: "The resource has changed since the ETag in If-Match",
    428: "If-Match is missing",
}
