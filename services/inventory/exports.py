"""Streams whole datasets as CSV or Parquet, a piece at a time, all from one snapshot of the database."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import IO, Any, Final, cast

import asyncpg
import pyarrow
import pyarrow.parquet as parquet

from libs.chassis.database import Connection, Pool, acquired
from services.inventory.queries import datasets
from services.inventory.queries.datasets import Dataset
from services.inventory.table_files import Format

ROWS_AT_ONCE = 5_000
_ARROW_TYPES: Final[dict[str, pyarrow.DataType]] = {
    "text": pyarrow.string(),
    "bigint": pyarrow.int64(),
    "money": pyarrow.decimal128(18, 6),
    "instant": pyarrow.timestamp("us", tz="UTC"),
}
# The last four are the full-width forms, which spreadsheets of East Asian locales take for the same.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@asynccontextmanager
async def snapshot(pool: Pool) -> AsyncIterator[Connection]:
    """A connection that sees the database as it stands at one moment."""
    async with acquired(pool) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        yield connection


async def stream(
    connection: Connection, dataset: Dataset, file_format: Format, warehouses: Collection[str] | None
) -> AsyncIterator[bytes]:
    """The file of a dataset, columns named as in REST; with `warehouses`, of these only."""
    writer = _CsvWriter(dataset) if file_format == "csv" else _ParquetWriter(dataset)
    async with aclosing(datasets.read(connection, dataset, warehouses, ROWS_AT_ONCE)) as pieces:
        async for rows in pieces:
            yield await asyncio.to_thread(writer.write, rows)
    yield writer.end()


class _CsvWriter:
    """Rows as CSV that a spreadsheet may open: no text is taken for a formula."""

    def __init__(self, dataset: Dataset) -> None:
        self._text = io.StringIO()
        self._csv = csv.writer(self._text, lineterminator="\n")
        self._csv.writerow(dataset.columns)

    def write(self, rows: Sequence[asyncpg.Record]) -> bytes:
        """The rows as they go into the file."""
        self._csv.writerows([_cell(value) for value in row] for row in rows)
        return self.end()

    def end(self) -> bytes:
        """What is left to be sent."""
        content = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return content.encode()


class _ParquetWriter:
    """Rows as row groups of a Parquet file."""

    def __init__(self, dataset: Dataset) -> None:
        self._columns = dataset.columns
        self._schema = pyarrow.schema(
            list(zip(dataset.columns, (_ARROW_TYPES[each] for each in dataset.types), strict=True))
        )
        self._buffer = _Drain()
        # pyarrow's stubs want a typed file; any object that can be written to will do.
        self._writer = parquet.ParquetWriter(cast(IO[Any], self._buffer), self._schema, compression="zstd")

    def write(self, rows: Sequence[asyncpg.Record]) -> bytes:
        """The rows as they go into the file."""
        columns = dict(zip(self._columns, zip(*rows, strict=True), strict=True))
        self._writer.write_table(pyarrow.table(columns, schema=self._schema))
        return self._buffer.drain()

    def end(self) -> bytes:
        """The rest of the file."""
        self._writer.close()
        return self._buffer.drain()


class _Drain(io.RawIOBase):
    """A file that is emptied while it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._content = bytearray()
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        self._content += content
        self._position += len(content)
        return len(content)

    def tell(self) -> int:
        return self._position

    def drain(self) -> bytes:
        """What was written since the last call."""
        content = bytes(self._content)
        self._content.clear()
        return content


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value.isoformat() if hasattr(value, "isoformat") else value
