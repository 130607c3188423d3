"""Bodies of reservations."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

import asyncpg
from pydantic import Field

from libs.chassis.model import ApiModel, RowModel
from libs.events.envelope import Sku, WarehouseId
from libs.events.inventory import TransactionType
from services.inventory import reservation
from services.inventory.reservation import Reservation, ReservationStatus, Share
from services.inventory.schemas.fields import (
    Instant,
    Money,
    Notes,
    PositiveQuantity,
    Reference,
    Source,
    request_hash,
)
from services.inventory.schemas.stock import MOST_LINES
from services.inventory.transaction import Document, Line

LONGEST_TTL_SECONDS = 30 * 24 * 3600


class ShareIn(ApiModel):
    """Units of one stock item."""

    sku: Sku
    warehouse_id: WarehouseId
    quantity: PositiveQuantity

    def share(self) -> Share:
        """The same as a value of the rules."""
        return Share(self.sku, self.warehouse_id, self.quantity)


class SoldShareIn(ShareIn):
    """Units of one stock item that are sold."""

    unit_price: Money | None = None


class ReservationIn(ApiModel):
    """Units to hold for somebody."""

    reservation_id: Annotated[UUID, Field(description="Chosen by the caller; sending it again is safe.")]
    reference_id: Reference | None = None
    notes: Notes | None = None
    source: Source = "api"
    ttl_seconds: Annotated[int, Field(ge=1, le=LONGEST_TTL_SECONDS, description="How long the units are held.")] = 900
    allow_partial: Annotated[bool, Field(description="Take what there is when it is less than asked.")] = False
    lines: Annotated[list[ShareIn], Field(min_length=1, max_length=MOST_LINES)]

    def reservation(self, actor: str) -> Reservation:
        """The reservation that this body asks for."""
        return Reservation(
            self.reservation_id,
            [line.share() for line in self.lines],
            self.ttl_seconds,
            self.allow_partial,
            request_hash(self),
            actor,
            self.source,
            self.reference_id,
            self.notes,
        )


class FulfilmentIn(ApiModel):
    """Turns held units into a sale; all of them when no lines are given."""

    transaction_id: Annotated[UUID, Field(description="Of the sale, chosen by the caller.")]
    reference_id: Reference | None = None
    notes: Notes | None = None
    occurred_at: Instant | None = None
    source: Source = "api"
    lines: list[SoldShareIn] = Field(default_factory=list, max_length=MOST_LINES)

    def document(self, reservation_id: UUID, actor: str) -> Document:
        """The sale that this body asks for."""
        return Document(
            transaction_id=self.transaction_id,
            transaction_type=TransactionType.SALE,
            lines=[
                Line(line.sku, line.warehouse_id, -line.quantity, unit_price=line.unit_price) for line in self.lines
            ],
            request_hash=request_hash(self, reservation_id.hex),
            actor=actor,
            source=self.source,
            reference_id=self.reference_id,
            notes=self.notes,
            occurred_at=self.occurred_at,
            reservation_id=reservation_id,
        )


class ReleaseIn(ApiModel):
    """Gives held units back; all of them when no lines are given."""

    lines: list[ShareIn] = Field(default_factory=list, max_length=MOST_LINES)


class AllocationOut(RowModel):
    """What one line of a reservation got, and what became of it."""

    line_no: int
    sku: str
    warehouse_id: str
    quantity_requested: int
    quantity: Annotated[int, Field(description="Held at first; less than requested with allowPartial.")]
    fulfilled: int
    released: int
    outstanding: int


class ReservationHeadOut(ApiModel):
    """A reservation without its lines."""

    reservation_id: UUID
    reference_id: str | None
    notes: str | None
    actor: str
    status: ReservationStatus
    created_at: datetime
    expires_at: datetime

    @classmethod
    def of_row(cls, row: asyncpg.Record) -> Self:
        """The reservation of a row with the totals of its lines."""
        lines = [(row["quantity"], row["fulfilled"], row["outstanding"])]
        return cls(**_head(row), status=reservation.status(lines, row["expires_at"], row["now"]))


class ReservationOut(ReservationHeadOut):
    """A reservation. Once overdue, its units count as released."""

    lines: list[AllocationOut]

    @classmethod
    def of_found(cls, found: Mapping[str, Any]) -> Self:
        """The reservation with its lines."""
        lines = [AllocationOut.of(line) for line in found["lines"]]
        figures = [(line.quantity, line.fulfilled, line.outstanding) for line in lines]
        status = reservation.status(figures, found["expires_at"], found["now"])
        return cls(**_head(found), status=status, lines=lines)


def _head(row: asyncpg.Record | Mapping[str, Any]) -> dict[str, Any]:
    names = ("reservation_id", "reference_id", "notes", "actor", "created_at", "expires_at")
    return {name: row[name] for name in names}
