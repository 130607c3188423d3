"""What an import file holds: validated products, or documents made of its rows, a piece at a time."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from libs.events.inventory import TransactionType
from services.inventory.schemas.imports import (
    ROW_OF,
    ImportKind,
    OpeningBalanceRow,
    ProductRow,
    RowError,
    TransactionRow,
)
from services.inventory.schemas.stock import MOST_LINES, LineIn, TransactionIn
from services.inventory.table_files import Format, Row, in_pieces, rows
from services.inventory.transaction import Document

ROWS_AT_ONCE = 1_000
SOURCE = "import"


@dataclass(frozen=True, slots=True)
class ImportedDocument:
    """A document and the numbers of the rows that its lines stand in.

    A divisible one is ours to cut: rows that are refused do not concern the others.
    """

    document: Document
    rows: list[int]
    divisible: bool

    def without(self, lines: Collection[int]) -> "ImportedDocument | None":
        """The document without these lines (by index), or None when nothing is left."""
        kept = [index for index in range(len(self.rows)) if index not in lines]
        if not kept:
            return None
        document = replace(self.document, lines=[self.document.lines[index] for index in kept])
        return ImportedDocument(document, [self.rows[index] for index in kept], self.divisible)


@dataclass(frozen=True, slots=True)
class Products:
    """A piece of a file of products."""

    rows: int
    errors: list[RowError]
    products: list[tuple[int, ProductRow]]


@dataclass(frozen=True, slots=True)
class Documents:
    """A piece of a file of opening balances or transactions."""

    rows: int
    errors: list[RowError]
    documents: list[ImportedDocument]


Piece = Products | Documents


def pieces(path: Path, file_format: Format, kind: ImportKind, import_id: UUID, actor: str) -> Iterator[Piece]:
    """The pieces of a file in order. Raises UnreadableFile when the file as a whole is wrong."""
    model = ROW_OF[kind]
    columns = [to_camel(name) for name in model.model_fields]
    required = [to_camel(name) for name, each in model.model_fields.items() if each.is_required()]
    numbered = enumerate(rows(path, file_format, columns, required), start=1)
    if kind is ImportKind.TRANSACTIONS:
        yield from _transactions(numbered, actor)
        return
    for index, piece in enumerate(in_pieces(numbered, ROWS_AT_ONCE)):
        if kind is ImportKind.PRODUCTS:
            products, errors = _validated(piece, ProductRow)
            yield Products(len(piece), errors, products)
        else:
            yield _opening_balances(piece, uuid5(import_id, str(index)), actor)


def _opening_balances(piece: list[tuple[int, Row]], transaction_id: UUID, actor: str) -> Documents:
    valid, errors = _validated(piece, OpeningBalanceRow)
    if not valid:
        return Documents(len(piece), errors, [])
    body = TransactionIn(
        transaction_id=transaction_id,
        transaction_type=TransactionType.OPENING_BALANCE,
        source=SOURCE,
        lines=[
            LineIn(sku=row.sku, warehouse_id=row.warehouse_id, quantity_change=row.quantity, unit_cost=row.unit_cost)
            for _, row in valid
        ],
    )
    imported = ImportedDocument(body.document(actor), [number for number, _ in valid], divisible=True)
    return Documents(len(piece), errors, [imported])


def _transactions(numbered: Iterable[tuple[int, Row]], actor: str) -> Iterator[Documents]:
    """Pieces of whole documents: rows of one transactionId that stand together."""
    count, errors, documents = 0, list[RowError](), list[ImportedDocument]()
    for _, group in groupby(numbered, key=lambda row: str(row[1].get("transactionId")).lower()):
        lines = list(group)
        document, faults = _transaction(lines, actor)
        count += len(lines)
        errors += faults
        if document is not None:
            documents.append(document)
        if count >= ROWS_AT_ONCE:
            yield Documents(count, errors, documents)
            count, errors, documents = 0, [], []
    yield Documents(count, errors, documents)


def _transaction(lines: list[tuple[int, Row]], actor: str) -> tuple[ImportedDocument | None, list[RowError]]:
    valid, errors = _validated(lines, TransactionRow)
    if errors:
        return None, errors
    first = valid[0][1]
    head = {name: getattr(first, name) for name in _HEAD}
    for number, row in valid:
        if {name: getattr(row, name) for name in _HEAD} != head:
            errors.append(_error(number, None, "differs from the first row of its transaction"))
    if len(valid) > MOST_LINES:
        errors.append(_error(valid[0][0], "transactionId", f"{len(valid)} lines, at most {MOST_LINES} are taken"))
    if errors:
        return None, errors
    body = TransactionIn(**head, source=SOURCE, lines=[LineIn(**row.model_dump(include=_LINE)) for _, row in valid])
    return ImportedDocument(body.document(actor), [number for number, _ in valid], divisible=False), []


_LINE = set(TransactionRow.model_fields) & set(LineIn.model_fields)
_HEAD = set(TransactionRow.model_fields) - _LINE


def _validated(numbered: Iterable[tuple[int, Row]], model: type[Any]) -> tuple[list[tuple[int, Any]], list[RowError]]:
    valid, errors = [], []
    for number, row in numbered:
        try:
            valid.append((number, model.model_validate(row)))
        except ValidationError as refused:
            for fault in refused.errors(include_url=False, include_context=False, include_input=False):
                column = str(fault["loc"][0]) if fault["loc"] else None
                errors.append(_error(number, column, fault["msg"]))
    return valid, errors


def _error(row: int, column: str | None, detail: str) -> RowError:
    return RowError(row=row, column=column, code="validation-failed", detail=detail)
