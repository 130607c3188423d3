"""Imports files of products, opening balances and transactions: all of it, or nothing and the list of all faults.

A dry run does what the real run does, and takes it back.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from libs.chassis.database import Connection, Pool, acquired, retrying
from services.inventory import import_file, ledger
from services.inventory.import_file import Documents, ImportedDocument, Piece, Products
from services.inventory.ledger import MOST_ATTEMPTS
from services.inventory.outcome import ErrorPolicy, Outcome, Rejected, Replayed
from services.inventory.queries import catalogue, idempotency, transactions
from services.inventory.refusal import AlreadyExists, Archived, Refused, UnknownCategory
from services.inventory.schemas.fields import request_hash
from services.inventory.schemas.imports import ImportKind, ProductRow, RowError
from services.inventory.statuses import REFUSALS
from services.inventory.table_files import Format

MOST_ERRORS = 10_000
"""How many are listed: more would not be read, but held in memory."""

STATEMENT_TIMEOUT = "60s"
APART = "other rows of this transaction stand further up: rows of one transactionId stand together"


@dataclass(slots=True)
class Result:
    """What has become of the rows so far."""

    rows: int = 0
    unchanged: int = 0
    errors: list[RowError] = field(default_factory=list)
    error_count: int = 0
    applied: bool = False
    replayed: bool = False

    def refuse(self, row: int, refusal: Refused, detail: str | None = None) -> None:
        """Note that a rule refuses a row."""
        _, code = REFUSALS[type(refusal)]
        self.add([RowError(row=row, column=None, code=code, detail=detail or str(refusal))])

    def add(self, errors: Sequence[RowError]) -> None:
        """Note errors: all are counted, the first ones listed."""
        self.error_count += len(errors)
        self.errors += errors[: max(0, MOST_ERRORS - len(self.errors))]


@dataclass(frozen=True, slots=True)
class Import:
    """A file to import. The same `import_id` and file again change nothing; another file is refused."""

    import_id: UUID
    kind: ImportKind
    path: Path
    file_format: Format
    actor: str
    dry_run: bool

    def request_hash(self) -> bytes:
        """SHA-256 of what is imported and as what."""
        with self.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        return hashlib.sha256(f"{self.kind} {self.file_format} ".encode() + content).digest()


async def run(pool: Pool, asked: Import) -> Result:
    """Import the file in one database transaction, a piece at a time.

    Raises UnreadableFile when the file as a whole is wrong, and KeyReused when another one was imported under the id.
    """
    wanted = await asyncio.to_thread(asked.request_hash)

    async def attempt() -> Result:
        async with acquired(pool) as connection:
            unit = connection.transaction()
            await unit.start()
            try:
                await connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")
                # Tables grow a lot in this transaction: a plan that was kept since they were small would scan them.
                await connection.execute("SET LOCAL plan_cache_mode = 'force_custom_plan'")
                replayed = await idempotency.is_repeated(connection, asked.actor, f"import {asked.import_id}", wanted)
                result = await _apply_pieces(connection, asked)
                result.replayed = replayed
            except BaseException:
                await unit.rollback()
                raise
            result.applied = not (result.error_count or asked.dry_run)
            await (unit.commit() if result.applied else unit.rollback())
            return result

    result = await retrying(attempt, attempts=MOST_ATTEMPTS)
    result.errors.sort(key=lambda error: error.row)
    return result


async def _apply_pieces(connection: Connection, asked: Import) -> Result:
    result = Result()
    async for piece in _pieces(asked):
        result.rows += piece.rows
        result.add(piece.errors)
        if isinstance(piece, Products):
            await _create_products(connection, piece, result)
        else:
            await _post_documents(connection, piece, result)
    return result


async def _pieces(asked: Import) -> AsyncIterator[Piece]:
    """The pieces of the file, each read and validated in a thread."""
    pieces = import_file.pieces(asked.path, asked.file_format, asked.kind, asked.import_id, asked.actor)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece


async def _create_products(connection: Connection, piece: Products, result: Result) -> None:
    wanted = {row.category_id for _, row in piece.products if row.category_id is not None}
    known = await catalogue.known_categories(connection, wanted)
    valid: list[tuple[int, ProductRow]] = []
    for number, row in piece.products:
        if row.category_id is not None and row.category_id not in known:
            result.refuse(number, UnknownCategory(f"There is no category {row.category_id}"))
        else:
            valid.append((number, row))
    hashes = [request_hash(row) for _, row in valid]
    created = await catalogue.create_products(connection, [row.model_dump() for _, row in valid], hashes)
    archived = await catalogue.archived_categories(connection, known)
    present = await catalogue.product_hashes(connection, [row.sku for _, row in valid])
    for (number, row), row_hash in zip(valid, hashes, strict=True):
        if present[row.sku] != row_hash:
            result.refuse(number, AlreadyExists(f"There is a product {row.sku} already, created differently"))
        elif row.sku in created:
            created.remove(row.sku)
            if row.category_id in archived:
                result.refuse(number, Archived(f"Category {row.category_id} is archived"))
        else:
            result.unchanged += 1


async def _post_documents(connection: Connection, piece: Documents, result: Result) -> None:
    waiting = await _standing_together(connection, piece.documents, result)
    while waiting:
        documents = [each.document for each in waiting]
        outcomes = await ledger.post_in(connection, documents, ErrorPolicy.ACCEPT_VALID)
        remainders = [_note(each, outcome, result) for each, outcome in zip(waiting, outcomes, strict=True)]
        waiting = [each for each in remainders if each is not None]


async def _standing_together(
    connection: Connection, documents: Sequence[ImportedDocument], result: Result
) -> list[ImportedDocument]:
    """The documents without those whose other rows stood further up in the file: these are noted as errors."""
    seen = await transactions.posted_here(connection, [each.document.transaction_id for each in documents])
    together = []
    for each in documents:
        if each.document.transaction_id in seen:
            result.add([import_file.row_error(row, "transactionId", APART) for row in each.rows])
        else:
            together.append(each)
        seen.add(each.document.transaction_id)
    return together


def _note(imported: ImportedDocument, outcome: Outcome, result: Result) -> ImportedDocument | None:
    """Note what became of a document; what is left of it to try again, so that faults of every kind are found."""
    if isinstance(outcome, Replayed):
        result.unchanged += len(imported.rows)
    if not isinstance(outcome, Rejected):
        return None
    faulty = _faulty_lines(outcome.error, len(imported.rows))
    for index, detail in faulty.items():
        result.refuse(imported.rows[index], outcome.error, detail)
    return imported.without(faulty.keys()) if imported.divisible else None


def _faulty_lines(refusal: Refused, lines: int) -> dict[int, str]:
    """Line index -> what is wrong with it; every line when the document as a whole is wrong."""
    faults = {}
    for error in refusal.errors:
        parts: Sequence[str] = error["pointer"].split("/")
        if len(parts) > 2 and parts[1] == "lines":
            faults[int(parts[2])] = error["detail"]
    return faults or dict.fromkeys(range(lines), str(refusal))
