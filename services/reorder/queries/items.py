"""Stock items as parameters of set-based statements and as filters of lists."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Table

from services.reorder.recommendation import StockItem


def columns(items: Collection[StockItem]) -> tuple[list[str], list[str]]:
    """The skus and the warehouses of stock items, for `unnest`."""
    return [item.sku for item in items], [item.warehouse_id for item in items]


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which stock items a list shows."""

    sku: str | None
    warehouse_id: str | None
    visible_warehouses: frozenset[str] | None
    """Those that the caller may see; None = all."""

    def narrow(self, statement: Select[Any], table: Table) -> Select[Any]:
        """The statement, with only the rows of these stock items."""
        if self.sku is not None:
            statement = statement.where(table.c.sku == self.sku)
        if self.warehouse_id is not None:
            statement = statement.where(table.c.warehouse_id == self.warehouse_id)
        if self.visible_warehouses is not None:
            statement = statement.where(table.c.warehouse_id.in_(sorted(self.visible_warehouses)))
        return statement
