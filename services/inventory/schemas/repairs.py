"""Bodies of stock repairs."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

import asyncpg
from pydantic import Field

from libs.chassis.model import ApiModel, RowModel
from libs.events.envelope import Sku, WarehouseId
from services.inventory.repair import Change, Repair
from services.inventory.schemas.fields import Reason, request_hash

MOST_REPAIRED = 1_000


class StockItemIn(ApiModel):
    """A sku in a warehouse."""

    sku: Sku
    warehouse_id: WarehouseId


class StockRepairIn(ApiModel):
    """Levels to rebuild from the ledger and the outstanding allocations."""

    repair_id: Annotated[UUID, Field(description="Chosen by the caller; sending it again is safe.")]
    plan_id: Annotated[str, Field(min_length=1, max_length=128, description="The plan that asks for it.")] | None = None
    reason: Reason
    items: Annotated[list[StockItemIn], Field(min_length=1, max_length=MOST_REPAIRED)]

    def repair(self, actor: str) -> Repair:
        """The repair that this body asks for."""
        return Repair(self.repair_id, self.reason, actor, request_hash(self), self.plan_id)


class StockRepairUndoIn(ApiModel):
    """Takes a repair back with a new one."""

    repair_id: Annotated[UUID, Field(description="Of the new repair, chosen by the caller.")]
    reason: Reason

    def repair(self, undoes_id: UUID, actor: str) -> Repair:
        """The repair that this body asks for."""
        return Repair(self.repair_id, self.reason, actor, request_hash(self, undoes_id.hex), undoes_id=undoes_id)


class RepairedLevelOut(RowModel):
    """One level before and after."""

    sku: str
    warehouse_id: str
    on_hand_before: int
    on_hand_after: int
    reserved_before: int
    reserved_after: int
    revision: int


class StockRepairHeadOut(RowModel):
    """A repair without its levels."""

    repair_id: UUID
    plan_id: str | None
    reason: str
    actor: str
    undoes_id: UUID | None
    applied_at: datetime


class StockRepairOut(StockRepairHeadOut):
    """A repair and the levels that it changed; those that agreed already are not listed."""

    levels: list[RepairedLevelOut]

    @classmethod
    def of_changes(cls, head: asyncpg.Record, changes: list[Change]) -> Self:
        """The repair with these changes."""
        levels = [
            RepairedLevelOut(**{name: getattr(change, name) for name in RepairedLevelOut.model_fields})
            for change in changes
        ]
        return cls(**dict(head), levels=levels)
