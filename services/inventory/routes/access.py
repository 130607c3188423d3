"""Who may call: the scopes of the inventory service."""

from typing import Annotated

from fastapi import Depends, Path, Response

from libs.chassis.auth import Principal, require
from libs.events.envelope import Sku, WarehouseId

Reader = Annotated[Principal, Depends(require("inventory:read"))]
Operator = Annotated[Principal, Depends(require("inventory:write"))]
Repairer = Annotated[Principal, Depends(require("ops:repair"))]

SkuInPath = Annotated[Sku, Path(description="May contain slashes.")]
WarehouseInPath = Annotated[WarehouseId, Path()]


def mark_replayed(response: Response) -> None:
    """Answer 200 with `Idempotent-Replayed`: the request was carried out before, and nothing has changed now."""
    response.status_code = 200
    response.headers["Idempotent-Replayed"] = "true"
