"""Stock transactions as documents, with ids that are the same each time a file is replayed."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, islice
from typing import Any
from uuid import UUID, uuid5

import polars as pl

from libs.events.inventory import TransactionType

LINES_PER_DOCUMENT = 1_000
_NAMESPACE = UUID("1f6b0d0e-6a5e-5c0e-8a52-0d4c8e0f7b11")


@dataclass(frozen=True, slots=True)
class Line:
    """One movement of one stock item."""

    sku: str
    warehouse_id: str
    quantity_change: int
    unit_price: str | None = None
    position: int | None = None
    """Where the row stands in the file; None when no row of a file is behind it."""


@dataclass(frozen=True, slots=True)
class Document:
    """A stock transaction to post."""

    transaction_id: UUID
    transaction_type: TransactionType
    occurred_at: datetime
    lines: tuple[Line, ...]
    reference_id: str | None = None
    reason: str | None = None

    def body(self) -> dict[str, Any]:
        """The JSON of POST /transactions."""
        optional = {"referenceId": self.reference_id, "reason": self.reason}
        return {
            "transactionId": str(self.transaction_id),
            "transactionType": self.transaction_type.value,
            "occurredAt": self.occurred_at.isoformat(),
            "source": "replay",
            **{name: value for name, value in optional.items() if value is not None},
            "lines": [_line_body(line) for line in self.lines],
        }


def _line_body(line: Line) -> dict[str, Any]:
    body = {"sku": line.sku, "warehouseId": line.warehouse_id, "quantityChange": line.quantity_change}
    return body if line.unit_price is None else {**body, "unitPrice": line.unit_price}


def transaction_id(*facts: object) -> UUID:
    """The id of the document that these facts identify: the same facts, the same id."""
    return uuid5(_NAMESPACE, json.dumps([str(fact) for fact in facts]))


def sales_documents(sales: pl.DataFrame) -> Iterator[Document]:
    """One document per invoice, timestamp and sign, in order of time, of at most LINES_PER_DOCUMENT lines in row order.

    `sales` as `sales.screen` gives them. Units sold are a SALE, negative quantities a RETURN.
    """
    ordered = sales.sort("occurred_at", "reference_id", pl.col("quantity") < 0, "row_no")
    columns = ("occurred_at", "reference_id", "quantity", "row_no", "sku", "warehouse_id", "unit_price", "position")
    rows = ordered.select(columns).iter_rows()
    for (occurred_at, reference_id, is_return), group in groupby(rows, key=lambda row: (row[0], row[1], row[2] < 0)):
        transaction_type = TransactionType.RETURN if is_return else TransactionType.SALE
        while part := tuple(islice(group, LINES_PER_DOCUMENT)):
            yield Document(
                transaction_id("sales", reference_id, occurred_at.isoformat(), transaction_type, part[0][3]),
                transaction_type,
                occurred_at,
                tuple(Line(sku, warehouse, -units, price, at) for _, _, units, _, sku, warehouse, price, at in part),
                reference_id,
            )


def opening_balances(sales: pl.DataFrame) -> list[Document]:
    """The gross units sold of every stock item, on hand a day before: then sales may come in any order."""
    sold = (
        sales.filter(pl.col("quantity") > 0)
        .group_by("warehouse_id", "sku")
        .agg(pl.col("quantity").sum())
        .sort("warehouse_id", "sku")
    )
    if sold.is_empty():
        return []
    first = sales.select(pl.col("occurred_at").min()).item()
    eve = first.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    return opening_balance_documents([Line(sku, warehouse, units) for warehouse, sku, units in sold.iter_rows()], eve)


def opening_balance_documents(lines: Iterable[Line], occurred_at: datetime) -> list[Document]:
    """The lines as OPENING_BALANCE documents of at most LINES_PER_DOCUMENT lines.

    Their ids come from their content: another file that names the same stock items opens them a second time.
    """
    remaining = iter(lines)
    documents = []
    while part := tuple(islice(remaining, LINES_PER_DOCUMENT)):
        content = json.dumps([[line.warehouse_id, line.sku, line.quantity_change] for line in part])
        digest = hashlib.sha256(content.encode()).hexdigest()
        identity = transaction_id("opening balance", occurred_at.isoformat(), digest)
        documents.append(Document(identity, TransactionType.OPENING_BALANCE, occurred_at, part))
    return documents


def batches(documents: Iterable[Document], *, max_lines: int, max_documents: int) -> Iterator[list[Document]]:
    """The documents in order, packed for POST /transaction-batches. A document over `max_lines` travels alone."""
    batch: list[Document] = []
    lines = 0
    for document in documents:
        if batch and (lines + len(document.lines) > max_lines or len(batch) == max_documents):
            yield batch
            batch, lines = [], 0
        batch.append(document)
        lines += len(document.lines)
    if batch:
        yield batch
