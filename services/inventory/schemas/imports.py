"""Rows and answers of imports."""

from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

from pydantic import ConfigDict, Field

from libs.chassis.model import ApiModel
from libs.events.envelope import Sku, WarehouseId
from libs.events.inventory import TransactionType
from services.inventory.schemas.catalogue import CategoryId
from services.inventory.schemas.fields import (
    Instant,
    Money,
    Name,
    Notes,
    PositiveQuantity,
    Quantity,
    QuantityChange,
    Reference,
)


class ImportKind(StrEnum):
    """What the rows of a file are."""

    PRODUCTS = "products"
    OPENING_BALANCES = "opening-balances"
    TRANSACTIONS = "transactions"


class _Row(ApiModel):
    # Cells of a CSV are text, whatever they mean.
    model_config = ConfigDict(strict=False)


class ProductRow(_Row):
    """A product."""

    sku: Sku
    name: Name
    description: Notes | None = None
    category_id: CategoryId | None = None
    unit_of_measure: Annotated[str, Field(min_length=1, max_length=32, pattern=r"\S")] = "each"
    unit_cost: Money | None = None
    unit_price: Money | None = None
    shelf_life_days: Annotated[int, Field(gt=0, le=36_500)] | None = None


class OpeningBalanceRow(_Row):
    """What a warehouse held of a sku at the start."""

    sku: Sku
    warehouse_id: WarehouseId
    quantity: PositiveQuantity
    unit_cost: Money | None = None


class TransactionRow(_Row):
    """One line of a stock transaction; rows of one transactionId stand together."""

    transaction_id: UUID
    transaction_type: TransactionType
    sku: Sku
    warehouse_id: WarehouseId
    quantity_change: QuantityChange | None = None
    counted_quantity: Quantity | None = None
    unit_cost: Money | None = None
    unit_price: Money | None = None
    occurred_at: Instant | None = None
    reference_id: Reference | None = None
    notes: Notes | None = None
    reason: Annotated[str, Field(min_length=1, max_length=256)] | None = None


ROW_OF: Final[dict[ImportKind, type[_Row]]] = {
    ImportKind.PRODUCTS: ProductRow,
    ImportKind.OPENING_BALANCES: OpeningBalanceRow,
    ImportKind.TRANSACTIONS: TransactionRow,
}


class RowError(ApiModel):
    """One thing that is wrong with one row."""

    row: Annotated[int, Field(description="Number of the data row, the first is 1.")]
    column: str | None
    code: str
    detail: str


class ImportOut(ApiModel):
    """What became of a file. With errors, or as a dry run, nothing was changed."""

    kind: ImportKind
    dry_run: bool
    applied: bool
    rows: int
    unchanged: Annotated[int, Field(description="Rows that were imported before.")]
    errors: list[RowError]
