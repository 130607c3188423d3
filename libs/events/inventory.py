"""Events of the topic `inventory-events`, published by the inventory service."""

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from libs.events.envelope import (
    BaseEvent,
    Count,
    Event,
    Money,
    Number,
    Sku,
    SmallNumber,
    StockItemEvent,
    Units,
    WarehouseId,
    WireModel,
)


class TransactionType(StrEnum):
    """Why stock moved."""

    RECEIPT = "RECEIPT"
    SALE = "SALE"
    RETURN = "RETURN"
    OPENING_BALANCE = "OPENING_BALANCE"
    WRITE_OFF = "WRITE_OFF"
    ADJUSTMENT = "ADJUSTMENT"
    TRANSFER = "TRANSFER"
    COUNT = "COUNT"


class StockStatus(StrEnum):
    """How a stock item stands against its reorder point."""

    IN_STOCK = "IN_STOCK"
    LOW_STOCK = "LOW_STOCK"
    OUT_OF_STOCK = "OUT_OF_STOCK"


class LevelChangeCause(StrEnum):
    """Why a stock level changed without a ledger entry, or crossed a status."""

    TRANSACTION = "transaction"
    RESERVATION = "reservation"
    THRESHOLDS = "thresholds"
    REPAIR = "repair"


class InventoryUpdate(StockItemEvent):
    """One ledger entry: the units of one stock item changed. The only source of facts, positions and demand."""

    event_type: Literal["INVENTORY_UPDATE"] = "INVENTORY_UPDATE"
    sequence: Annotated[Number, Field(description="Number of the ledger entry of this stock item, without gaps.")]
    revision: Annotated[Number, Field(description="Number of the change of this stock level, of whatever kind.")]
    transaction_id: UUID
    transaction_type: TransactionType
    line_no: SmallNumber
    quantity_on_hand: Annotated[Count, Field(description="After this entry.")]
    quantity_reserved: Annotated[Count, Field(description="After this entry.")]
    unit_cost: Money | None = None
    unit_price: Money | None = None


class ExternalInventoryUpdate(BaseEvent):
    """A third party's `INVENTORY_UPDATE`: only the eight base fields, without `sequence`.

    Stored and counted apart (`origin = external`), deduplicated by `event_id`; it never changes a position.
    """

    event_type: Literal["INVENTORY_UPDATE"] = "INVENTORY_UPDATE"
    sku: Sku
    warehouse_id: WarehouseId


class TransactionLine(WireModel):
    """One line of a posted stock transaction."""

    line_no: SmallNumber
    sku: Sku
    warehouse_id: WarehouseId
    quantity_change: Units
    sequence: Number
    unit_cost: Money | None = None
    unit_price: Money | None = None


class TransactionPosted(Event):
    """One posted document. Feeds the transaction history; its lines are also sent as `INVENTORY_UPDATE`."""

    event_type: Literal["TRANSACTION"] = "TRANSACTION"
    sku: None = None
    warehouse_id: None = None
    transaction_id: UUID
    transaction_type: TransactionType
    reverses_id: UUID | None = None
    revision: Number = 1
    actor: Annotated[str, Field(max_length=128)]
    line_count: SmallNumber
    lines: list[TransactionLine]

    @property
    def key(self) -> str:
        return str(self.transaction_id)


class StockLevelChange(StockItemEvent):
    """A reservation, a threshold edit, a repair or a crossing of status: the level changed, the ledger did not."""

    event_type: Literal["STOCK_LEVEL_CHANGE"] = "STOCK_LEVEL_CHANGE"
    quantity_change: Literal[0] = 0
    revision: Number
    quantity_on_hand: Count
    quantity_reserved: Count
    quantity_available: Count
    reorder_point: Count | None
    reorder_quantity: Count | None
    stock_status: StockStatus
    cause: LevelChangeCause


InventoryEvent = Annotated[InventoryUpdate | TransactionPosted | StockLevelChange, Field(discriminator="event_type")]
