"""Rows and answers of imports."""

from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field

from libs.chassis.model import ApiModel
from libs.events.envelope import Sku, WarehouseId
from libs.events.inventory import TransactionType
from services.inventory.schemas.catalogue import CategoryId
from services.inventory.schemas.fields import (
    Instant,
    LinePrice,
    Money,
    Name,
    Notes,
    PositiveQuantity,
    Quantity,
    QuantityChange,
    Reason,
    Reference,
)


class ImportKind(StrEnum):
    """What the rows of a file are."""

    PRODUCTS = "products"
    OPENING_BALANCES = "opening-balances"
    TRANSACTIONS = "transactions"


def _is_whole_number(cell: Any) -> Any:
    if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell):
        raise ValueError("not a whole number")
    return cell


def _is_instant(cell: Any) -> Any:
    # pydantic would take a number of seconds.
    if isinstance(cell, int | float) or (isinstance(cell, str) and "-" not in cell.strip()[1:]):
        raise ValueError("not an RFC 3339 instant")
    return cell


_WHOLE = BeforeValidator(_is_whole_number)


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
    shelf_life_days: Annotated[int, Field(gt=0, le=36_500), _WHOLE] | None = None


class OpeningBalanceRow(_Row):
    """What a warehouse held of a sku at the start."""

    sku: Sku
    warehouse_id: WarehouseId
    quantity: Annotated[PositiveQuantity, _WHOLE]
    unit_cost: Money | None = None


class TransactionRow(_Row):
    """One line of a stock transaction; rows of one transactionId stand together."""

    transaction_id: UUID
    transaction_type: TransactionType
    sku: Sku
    warehouse_id: WarehouseId
    quantity_change: Annotated[QuantityChange, _WHOLE] | None = None
    counted_quantity: Annotated[Quantity, _WHOLE] | None = None
    expected_quantity: Annotated[Quantity, _WHOLE] | None = None
    unit_cost: Money | None = None
    unit_price: LinePrice | None = None
    occurred_at: Annotated[Instant, BeforeValidator(_is_instant)] | None = None
    reference_id: Reference | None = None
    notes: Notes | None = None
    reason: Reason | None = None


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
    error_count: Annotated[int, Field(description="All errors; the first 10,000 are listed.")]
    errors: list[RowError]
