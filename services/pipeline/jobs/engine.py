"""What the batch jobs calculate with: DuckDB in this process, or Spark, as `BATCH_ENGINE` says."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis import ir
from pyarrow.dataset import dataset
from pyarrow.fs import FileSystem

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend as DuckDBBackend
    from pyspark.sql import SparkSession

ROWS_PER_BATCH = 100_000
ROWS_PER_GROUP = 16_384
"""So many rows of a result each thread of DuckDB gathers before it writes them."""


class Engine(ABC):
    """Reads Parquet files as Ibis tables, and executes expressions over them. Every method blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()

    def read(self, files: Sequence[str], schema: pa.Schema) -> ir.Table:
        """The rows of Parquet files that hold these columns."""
        if not files:
            return self.table(schema.empty_table())
        return self._parquet(files).select(*schema.names)

    def table(self, rows: pa.Table) -> ir.Table:
        """Rows of this process."""
        path = self._folder / f"{next(self._numbers)}.parquet"
        pq.write_table(rows, path)
        return self._parquet([str(path)])

    def days(self, days: Sequence[int]) -> ir.Table:
        """A table of the one column `day`."""
        return self.table(pa.table({"day": pa.array(days, pa.int32())}))

    @abstractmethod
    def rows(self, expression: ir.Table, schema: pa.Schema) -> pa.RecordBatchReader:
        """The result in batches, with the columns and types of the schema; until the engine is closed."""

    @abstractmethod
    def _parquet(self, files: Sequence[str]) -> ir.Table: ...


class _DuckDB(Engine):
    def __init__(self, backend: "DuckDBBackend", folder: Path) -> None:
        super().__init__(folder)
        self._backend = backend

    def rows(self, expression: ir.Table, schema: pa.Schema) -> pa.RecordBatchReader:
        # Sums of 64-bit numbers have 128 bits in DuckDB, whatever Ibis takes them for: the cast refuses what is lost.
        columns = ", ".join(
            f'CAST("{field.name}" AS {_DUCKDB_TYPES[str(field.type)]}) AS "{field.name}"' for field in schema
        )
        query = f"SELECT {columns} FROM ({self._backend.compile(expression)})"
        # Through a file: read as it is calculated, the union of many large sums waits for itself for ever (1.5.6).
        result = str(self._folder / f"{next(self._numbers)}.parquet")
        self._backend.con.execute(f"COPY ({query}) TO '{result}' (FORMAT parquet, ROW_GROUP_SIZE {ROWS_PER_GROUP})")
        return _batches(result, schema)

    def _parquet(self, files: Sequence[str]) -> ir.Table:
        if "://" not in files[0]:
            return self._backend.read_parquet(list(files), hive_partitioning=False)
        # DuckDB reads object storage with an extension that it downloads; Arrow has all that it needs.
        filesystem, _ = FileSystem.from_uri(files[0])
        paths = [file.removeprefix("s3://") for file in files]
        view = f"parquet_{next(self._numbers)}"
        self._backend.con.register(view, dataset(paths, filesystem=filesystem))
        return self._backend.table(view)


class _Spark(Engine):
    def __init__(self, session: "SparkSession", folder: Path) -> None:
        super().__init__(folder)
        self._session = session
        self._backend = ibis.pyspark.connect(session)

    def rows(self, expression: ir.Table, schema: pa.Schema) -> pa.RecordBatchReader:
        # Through files, because everything else collects the whole result in this process.
        result = str(self._folder / f"{next(self._numbers)}")
        self._session.sql(self._backend.compile(expression)).select(*schema.names).write.parquet(result)
        return _batches(result, schema)

    def _parquet(self, files: Sequence[str]) -> ir.Table:
        # Ibis reads one file or folder only.
        view = f"parquet_{next(self._numbers)}"
        self._session.read.parquet(*files).createOrReplaceTempView(view)
        return self._backend.table(view)


def _batches(result: str, schema: pa.Schema) -> pa.RecordBatchReader:
    # File by file, because a dataset's batches are no larger than its row groups.
    batches = (batch for file in dataset(result).files for batch in _rows_of(file))
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in batches))


def _rows_of(file: str) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as opened:
        yield from opened.iter_batches(batch_size=ROWS_PER_BATCH)


_DUCKDB_TYPES = {
    "string": "VARCHAR",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "decimal128(38, 0)": "DECIMAL(38, 0)",
}


@contextmanager
def open_engine(
    name: str, *, memory_limit: str, spill_folder: str | None, spill_limit: str | None = None
) -> Iterator[Engine]:
    """An engine that takes at most so much memory (`1GiB`), and spills the rest into a folder of its own.

    DuckDB spills no more than `spill_limit`, and most of the disk without one.

    Raises ImportError when Spark is asked for and not installed.
    """
    with TemporaryDirectory(prefix="stockflow-batch-", dir=spill_folder) as folder:
        if name == "duckdb":
            backend = ibis.duckdb.connect(
                memory_limit=memory_limit,
                temp_directory=f"{folder}/spill",
                preserve_insertion_order=False,
                **({"max_temp_directory_size": spill_limit} if spill_limit else {}),
            )
            try:
                yield _DuckDB(backend, Path(folder))
            finally:
                backend.disconnect()
        else:
            with _spark.session(memory_limit, spill_folder) as session:
                yield _Spark(session, Path(folder))


class _SparkApplication:
    """The one that a process can have: it begins with the first engine, and ends with the last of them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sessions = 0
        self._resources = ExitStack()
        self._root: SparkSession | None = None

    @contextmanager
    def session(self, memory_limit: str, spill_folder: str | None) -> Iterator["SparkSession"]:
        """A session with tables of its own, for as long as the block lasts."""
        with self._lock:
            if self._root is None:
                self._root = self._begin(memory_limit, spill_folder)
            self._sessions += 1
            session = self._root.newSession()
        try:
            yield session
        finally:
            with self._lock:
                self._sessions -= 1
                if self._sessions == 0:
                    self._root = None
                    self._resources.close()

    def _begin(self, memory_limit: str, spill_folder: str | None) -> "SparkSession":
        from pyspark.sql import SparkSession

        folder = self._resources.enter_context(TemporaryDirectory(prefix="stockflow-spark-", dir=spill_folder))
        session = (
            SparkSession.builder.appName("stockflow-batch")
            .config("spark.driver.memory", memory_limit.removesuffix("iB").lower())
            .config("spark.local.dir", folder)
            .config("spark.sql.session.timeZone", "UTC")
            .getOrCreate()
        )
        self._resources.callback(session.stop)
        return session


_spark = _SparkApplication()
