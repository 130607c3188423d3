"""Reads rows from CSV and Parquet files piece by piece, whatever their size."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow
import pyarrow.parquet as parquet

from services.inventory.refusal import UnreadableFile

Format = Literal["csv", "parquet"]
Row = dict[str, Any]
T = TypeVar("T")


def rows(path: Path, file_format: Format, columns: Sequence[str], required: Sequence[str]) -> Iterator[Row]:
    """The rows of a file, blank cells left out.

    Raises UnreadableFile for another format, for columns that are unknown or missing, and for broken rows.
    """
    return _csv_rows(path, columns, required) if file_format == "csv" else _parquet_rows(path, columns, required)


def in_pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most `size`."""
    iterator = iter(items)
    while piece := list(islice(iterator, size)):
        yield piece


def _csv_rows(path: Path, columns: Sequence[str], required: Sequence[str]) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, restkey="")
            _check_columns(reader.fieldnames or (), columns, required)
            for row in reader:
                # Cells beyond the last column stand under the empty name, which no model knows.
                yield {name: cell for name, cell in row.items() if cell is not None and cell != ""}
    except (csv.Error, UnicodeDecodeError) as error:
        raise UnreadableFile(f"The CSV cannot be read: {error}") from error


def _parquet_rows(path: Path, columns: Sequence[str], required: Sequence[str]) -> Iterator[Row]:
    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(file.schema_arrow.names, columns, required)
            for batch in file.iter_batches(batch_size=1_000):
                for row in batch.to_pylist():
                    yield {name: cell for name, cell in row.items() if cell is not None}
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        # Text that is not UTF-8 and instants that Python has no year for only show when a row is read.
        raise UnreadableFile(f"The Parquet file cannot be read: {error}") from error


def _check_columns(found: Sequence[str], columns: Sequence[str], required: Sequence[str]) -> None:
    if unknown := sorted(set(found) - set(columns)):
        raise UnreadableFile(f"Unknown columns: {', '.join(unknown)}; known are {', '.join(columns)}")
    if missing := sorted(set(required) - set(found)):
        raise UnreadableFile(f"Missing columns: {', '.join(missing)}")
    if len(set(found)) < len(found):
        raise UnreadableFile("A column stands there twice")
