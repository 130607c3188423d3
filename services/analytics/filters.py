"""Which stock items an answer is about."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Table


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """A sku, a warehouse, or both, among those that the caller may see."""

    sku: str | None
    warehouse_id: str | None
    visible_warehouses: frozenset[str] | None
    """None = all."""

    @property
    def warehouses(self) -> list[str] | None:
        """The warehouses asked for, sorted; None = all."""
        if self.warehouse_id is None:
            return None if self.visible_warehouses is None else sorted(self.visible_warehouses)
        visible = self.visible_warehouses is None or self.warehouse_id in self.visible_warehouses
        return [self.warehouse_id] if visible else []

    def narrow(self, statement: Select[Any], table: Table) -> Select[Any]:
        """The statement, with only the rows of these stock items."""
        if self.sku is not None:
            statement = statement.where(table.c.sku == self.sku)
        if self.warehouses is not None:
            statement = statement.where(table.c.warehouse_id.in_(self.warehouses))
        return statement
