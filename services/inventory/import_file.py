"""What an import file holds: validated products, or documents made of its rows, a piece at a time."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice
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
        length, document, faults = _transaction(group, actor)
        count += length
        errors += faults
        if document is not None:
            documents.append(document)
        if count >= ROWS_AT_ONCE:
            yield Documents(count, errors, documents)
            count, errors, documents = 0, [], []
    yield Documents(count, errors, documents)


def _transaction(lines: Iterator[tuple[int, Row]], actor: str) -> tuple[int, ImportedDocument | None, list[RowError]]:
    """How many rows there are, the document they make, and what is wrong with them; only the first rows are kept."""
    first_rows = list(islice(lines, MOST_LINES))
    length, (valid, errors) = len(first_rows), _validated(first_rows, TransactionRow)
    for piece in in_pieces(lines, MOST_LINES):
        length += len(piece)
        errors += _validated(piece, TransactionRow)[1]
    if length > MOST_LINES:
        errors.append(row_error(first_rows[0][0], "transactionId", f"{length} lines, at most {MOST_LINES} are taken"))
    if errors:
        return length, None, errors
    first = valid[0][1]
    head = {name: getattr(first, name) for name in _HEAD}
    for number, row in valid:
        if {name: getattr(row, name) for name in _HEAD} != head:
            errors.append(row_error(number, None, "differs from the first row of its transaction"))
    if errors:
        return length, None, errors
    lines_in = [LineIn(**{name: getattr(row, name) for name in _LINE}) for _, row in valid]
    body = TransactionIn(**head, source=SOURCE, lines=lines_in)
    imported = ImportedDocument(body.document(actor), [number for number, _ in valid], divisible=False)
    return length, imported, []


_LINE = set(TransactionRow.model_fields) & set(LineIn.model_fields)
_HEAD = set(TransactionRow.model_fields) - _LINE


def _validated(numbered: Iterable[tuple[int, Row]], model: type[Any]) -> tuple[list[tuple[int, Any]], list[RowError]]:
    valid, errors = [], []
    for number, row in numbered:
        try:
            if unstorable := [column for column, cell in row.items() if isinstance(cell, str) and "\x00" in cell]:
                errors += [row_error(number, column, "Text must not contain NUL characters") for column in unstorable]
                continue
            valid.append((number, model.model_validate(row)))
        except ValidationError as refused:
            for fault in refused.errors(include_url=False, include_context=False, include_input=False):
                column = str(fault["loc"][0]) if fault["loc"] else None
                errors.append(row_error(number, column, fault["msg"].removeprefix("Value error, ")))
    return valid, errors


def row_error(row: int, column: str | None, detail: str) -> RowError:
    """A cell, or with no column a row, that is not what the resource takes."""
    return RowError(row=row, column=column, code="validation-failed", detail=detail)
