"""Bodies of stock levels, stock transactions, transaction batches and ledger entries."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import asyncpg
from pydantic import Field, model_validator

from libs.chassis.model import ApiModel, RowModel
from libs.chassis.problems import ProblemError
from libs.events.envelope import Sku, WarehouseId
from libs.events.inventory import StockStatus, TransactionType
from services.inventory.outcome import ErrorPolicy, Posted
from services.inventory.schemas.fields import (
    Instant,
    LinePrice,
    Money,
    Notes,
    PositiveQuantity,
    Quantity,
    QuantityChange,
    Reason,
    Reference,
    Source,
    request_hash,
)
from services.inventory.transaction import Document, Entry, Line, OnShortfall

MOST_LINES = 1_000
MOST_DOCUMENTS_OF_A_BATCH = 1_000
MOST_LINES_OF_A_BATCH = 10_000


class LineIn(ApiModel):
    """One line: a change of one stock item, or for a count what was found."""

    sku: Sku
    warehouse_id: WarehouseId
    quantity_change: QuantityChange | None = None
    counted_quantity: Quantity | None = None
    expected_quantity: Quantity | None = None
    unit_cost: Money | None = None
    unit_price: LinePrice | None = None


class TransactionIn(ApiModel):
    """A stock transaction to post, all of its lines or none."""

    transaction_id: UUID
    transaction_type: TransactionType
    reference_id: Reference | None = None
    notes: Notes | None = None
    reason: Annotated[Reason, Field(description="An adjustment needs one.")] | None = None
    occurred_at: Instant | None = None
    source: Source = "api"
    on_shortfall: OnShortfall = OnShortfall.REJECT
    lines: Annotated[list[LineIn], Field(min_length=1, max_length=MOST_LINES)]

    def document(self, actor: str) -> Document:
        """The document that this body asks for."""
        return Document(
            transaction_id=self.transaction_id,
            transaction_type=self.transaction_type,
            lines=[
                Line(
                    line.sku,
                    line.warehouse_id,
                    line.quantity_change,
                    line.counted_quantity,
                    line.expected_quantity,
                    line.unit_cost,
                    line.unit_price,
                )
                for line in self.lines
            ],
            request_hash=request_hash(self),
            actor=actor,
            source=self.source,
            reference_id=self.reference_id,
            notes=self.notes,
            reason=self.reason,
            occurred_at=self.occurred_at,
            on_shortfall=self.on_shortfall,
        )

    @property
    def warehouse_ids(self) -> set[str]:
        return {line.warehouse_id for line in self.lines}


class TransactionLineOut(ApiModel):
    """What one line did."""

    line_no: int
    sku: str
    warehouse_id: str
    quantity_change: int
    quantity_after: int
    sequence: int
    unit_cost: Money | None
    unit_price: LinePrice | None


class TransactionHeaderOut(RowModel):
    """A posted stock transaction without its lines."""

    transaction_id: UUID
    transaction_type: TransactionType
    reference_id: str | None
    notes: str | None
    reason: str | None
    actor: str
    source: str
    occurred_at: datetime
    recorded_at: datetime
    line_count: int
    reverses_id: UUID | None
    reservation_id: UUID | None


class TransactionOut(TransactionHeaderOut):
    """A posted stock transaction."""

    lines: list[TransactionLineOut]

    @classmethod
    def of_posted(cls, posted: Posted) -> Self:
        """The answer to a document that was posted just now."""
        document, recorded_at = posted.document, posted.recorded_at
        return cls.of_entries(
            {
                "transaction_id": document.transaction_id,
                "transaction_type": document.transaction_type,
                "reference_id": document.reference_id,
                "notes": document.notes,
                "reason": document.reason,
                "actor": document.actor,
                "source": document.source,
                "occurred_at": document.occurred_at or recorded_at,
                "recorded_at": recorded_at,
                "line_count": len(document.lines),
                "reverses_id": document.reverses_id,
                "reservation_id": document.reservation_id,
            },
            posted.entries,
        )

    @classmethod
    def of_entries(cls, header: asyncpg.Record | Mapping[str, Any], entries: Sequence[Entry]) -> Self:
        """The transaction with this header and these ledger entries."""
        lines = [
            TransactionLineOut(
                line_no=entry.line_no,
                sku=entry.sku,
                warehouse_id=entry.warehouse_id,
                quantity_change=entry.quantity_change,
                quantity_after=entry.quantity_after,
                sequence=entry.sequence,
                unit_cost=entry.unit_cost,
                unit_price=entry.unit_price,
            )
            for entry in entries
        ]
        return cls(**dict(header), lines=lines)


class ReversalIn(ApiModel):
    """Takes a posted transaction back with a new one of opposite lines."""

    transaction_id: Annotated[UUID, Field(description="Of the new transaction, chosen by the caller.")]
    reference_id: Reference | None = None
    notes: Notes | None = None
    occurred_at: Instant | None = None
    source: Source = "api"

    def document(self, reverses_id: UUID, actor: str) -> Document:
        """The reversal that this body asks for; its type and lines are those of the transaction it takes back."""
        return Document(
            transaction_id=self.transaction_id,
            transaction_type=TransactionType.ADJUSTMENT,
            lines=(),
            request_hash=request_hash(self, reverses_id.hex),
            actor=actor,
            source=self.source,
            reference_id=self.reference_id,
            notes=self.notes,
            occurred_at=self.occurred_at,
            reverses_id=reverses_id,
        )


class TransactionBatchIn(ApiModel):
    """Independent documents to post in order, in one go."""

    error_policy: ErrorPolicy
    transactions: Annotated[list[TransactionIn], Field(min_length=1, max_length=MOST_DOCUMENTS_OF_A_BATCH)]

    @model_validator(mode="after")
    def _not_too_many_lines(self) -> Self:
        lines = sum(len(document.lines) for document in self.transactions)
        if lines > MOST_LINES_OF_A_BATCH:
            raise ValueError(f"{lines} lines in all, at most {MOST_LINES_OF_A_BATCH} are taken")
        return self


class ResultProblem(ApiModel):
    """Why a document of a batch was refused."""

    code: str
    detail: str
    errors: list[ProblemError]


class TransactionResult(ApiModel):
    """What became of one document of a batch."""

    index: int
    transaction_id: UUID
    status: Literal["posted", "replayed", "rejected"]
    problem: ResultProblem | None


class TransactionBatchOut(ApiModel):
    """What became of each document of a batch, in the order sent."""

    results: list[TransactionResult]
    posted: int
    replayed: int
    rejected: int


class LedgerEntryOut(RowModel):
    """One ledger entry: never changed, numbered without gaps per stock item."""

    sku: str
    warehouse_id: str
    sequence: int
    transaction_id: UUID
    transaction_type: TransactionType
    line_no: int
    quantity_change: int
    quantity_before: int
    quantity_after: int
    quantity_reserved_after: int
    revision: int
    unit_cost: Money | None
    unit_price: LinePrice | None
    reference_id: str | None
    source: str
    occurred_at: datetime
    recorded_at: datetime


class StockLevelOut(RowModel):
    """The units of one sku in one warehouse. Overdue reservations count as available."""

    sku: str
    warehouse_id: str
    quantity_on_hand: int
    quantity_reserved: int
    quantity_available: int
    reorder_point: int | None
    reorder_quantity: int | None
    stock_status: StockStatus
    sequence: int
    revision: int
    updated_at: datetime | None


class AsOfBasis(StrEnum):
    """Which time an as-of read goes by: when entries were recorded, or when they happened."""

    RECORDED = "recorded"
    OCCURRED = "occurred"


class StockLevelAsOfOut(RowModel):
    """What was on hand at an instant, by the ledger."""

    sku: str
    warehouse_id: str
    as_of: datetime
    basis: AsOfBasis
    quantity_on_hand: int
    entries: Annotated[int, Field(description="How many ledger entries lie at or before the instant.")]


class ThresholdsIn(ApiModel):
    """When a stock item counts as low, and how much to order then. null = none."""

    reorder_point: Quantity | None
    reorder_quantity: PositiveQuantity | None
