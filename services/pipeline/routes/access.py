"""Who may call, and which warehouses a key may act on."""

from typing import Annotated

from libs.chassis.auth import Principal, require
from libs.chassis.problems import Problem

Reader = Annotated[Principal, require("pipeline:read")]
Operator = Annotated[Principal, require("ops:read")]
Starter = Annotated[Principal, require("pipeline:run")]


def check_warehouse(principal: Principal, warehouse_id: str | None) -> None:
    """Raise a `Problem` 403 `warehouse-forbidden` unless the key may act on the warehouse; on all of them if None."""
    if warehouse_id is not None:
        principal.check_warehouses(warehouse_id)
    elif principal.warehouses is not None:
        raise Problem(403, "warehouse-forbidden", "This is about all warehouses; the key may act on some only.")
