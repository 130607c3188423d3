"""The lake: one Delta table per topic, partitioned by date and by warehouse, and those that batch jobs replace by date.

The only file that knows deltalake.
"""

import errno
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, SchemaMismatchError

from libs.events.failpoints import failpoint
from libs.events.sink import RecordId
from libs.events.topics import TOPICS, Topic
from services.pipeline.event_table import PARTITION_COLUMNS, EventTable, models_of

# A commit log of more than this many entries is condensed into a checkpoint, so that opening stays cheap.
_CONFIGURATION = {"delta.checkpointInterval": "50"}
Key = TypeVar("Key", int, str)
ROWS_AT_A_TIME = 100_000
ROWS_PER_BATCH = 100_000
_FIRST_OF_1970 = date(1970, 1, 1).toordinal()
# Almost all failures of deltalake are of one class: their text alone tells what cannot be stored from a storage that is
# away.
_UNSTORABLE = re.compile(
    r"Arrow error|Cast error|Unsupported CAST|Schema error"
    rf"|os error ({errno.EINVAL}|{errno.ENAMETOOLONG}|{errno.EILSEQ})\b"
)
_ZSTD = WriterProperties(compression="ZSTD", compression_level=3)


class StaleWriter(Exception):
    """Others have moved these writers' versions; nothing was written."""

    def __init__(self, writers: Sequence[str]) -> None:
        super().__init__(", ".join(writers))
        self.writers = tuple(writers)


@dataclass(frozen=True, slots=True)
class Advance:
    """A writer's version before and after an append: offsets of a Kafka partition, None before the first."""

    before: int | None
    after: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a table of the lake holds."""

    name: str
    url: str
    version: int
    files: int
    rows: int
    size_bytes: int
    first_date: date | None
    last_date: date | None


def is_transient(error: BaseException) -> bool:
    """Whether the storage failed, or another writer was faster, so that the same append may work later.

    Records that the table cannot hold, or the storage has no name for, will not be written however often it is tried.
    """
    storage_failed = isinstance(error, OSError | DeltaError) and not isinstance(error, SchemaMismatchError | ValueError)
    return storage_failed and _UNSTORABLE.search(str(error)) is None


class LakeTable:
    """The table of one topic. Every method blocks: call it in a thread."""

    def __init__(self, lake_url: str, topic: Topic) -> None:
        self.topic = topic
        self.url = f"{lake_url.rstrip('/')}/{topic.name}"
        self._rows = EventTable(models_of(topic.events))
        # A third party may give its event an id of ours: the two stand apart.
        is_external = ', "sequence" IS NULL' if "sequence" in self._rows.schema.names else ""
        self._identity = f'"date", "eventType", "eventId"{is_external}'
        self._table: DeltaTable | None = None

    @property
    def event_table(self) -> EventTable:
        """How events lie in the table."""
        return self._rows

    def versions(self, writers: Sequence[str]) -> dict[str, int | None]:
        """The stored version of each writer, None where it has never written."""
        table = self._open()
        table.update_incremental()
        return {writer: table.transaction_version(writer) for writer in writers}

    def append(self, rows: pa.Table, advances: Mapping[str, Advance]) -> None:
        """Add rows and move the writers' versions in one commit. Raises StaleWriter when a version is not as expected.

        Delta refuses a commit when, since our snapshot, somebody else has moved one of these versions; what moved
        before our snapshot is compared here.
        """
        table = self._open()
        self._check(table, advances)
        transactions = [Transaction(writer, advance.after) for writer, advance in advances.items()]
        try:
            write_deltalake(
                table,
                rows,
                mode="append",
                schema_mode="merge",
                writer_properties=_ZSTD,
                commit_properties=CommitProperties(app_transactions=transactions),
            )
        except CommitFailedError:
            table.update_incremental()
            self._check(table, advances)
            raise

    def events(self, event_type: str, columns: Sequence[str], marked: Collection[RecordId] = ()) -> Iterator[pa.Table]:
        """Events of a type, some dates at a time, without the repeats that a producer made.

        Repeats of an event carry the same timestamp, so they lie in the same date. A ledger entry and a third party's
        update are two events even under one id. A last column, `isMarked`, tells whether an event stands at none but
        the marked places.
        """
        if not DeltaTable.is_deltatable(self.url):
            return
        table = DeltaTable(self.url)
        selected = ", ".join(f'first_value("{column}") AS "{column}"' for column in columns)
        is_marked = " OR ".join(_at_places(marked)) or "false"
        for first, last in _date_ranges(_files(table)):
            yield pa.table(
                QueryBuilder()
                .register("events", table)
                .execute(
                    f"""
                    SELECT {selected}, bool_and({is_marked}) AS "isMarked" FROM events
                     WHERE "eventType" = '{event_type}'
                       AND "date" BETWEEN arrow_cast({first}, 'Date32') AND arrow_cast({last}, 'Date32')
                     GROUP BY {self._identity}
                    """
                )
            )

    def count_entries(self, first: date, last: date) -> dict[date, int]:
        """Date -> ledger entries that its INVENTORY_UPDATE events tell of, each once, from first to last."""
        if not DeltaTable.is_deltatable(self.url):
            return {}
        counted = pa.table(
            QueryBuilder()
            .register("events", DeltaTable(self.url))
            .execute(
                f"""
                SELECT "date", count(DISTINCT "eventId") AS entries FROM events
                 WHERE "eventType" = 'INVENTORY_UPDATE' AND "transactionId" IS NOT NULL
                   AND "date" BETWEEN DATE '{first}' AND DATE '{last}'
                 GROUP BY "date"
                """
            )
        )
        return {row["date"]: row["entries"] for row in counted.to_pylist()}

    def describe(self) -> Dataset | None:
        """What the table holds, from its commit log alone; None before the first commit."""
        return _describe(self.url, self.topic.name)

    def untidy_days(self, before: date, written_since: datetime) -> list[date]:
        """Days before the given one that are worth rewriting: some warehouse has several files, or an event is there
        twice. The latter is looked for only in days with a file that was written since the given instant.
        """
        if not DeltaTable.is_deltatable(self.url):
            return []
        table = DeltaTable(self.url)
        scattered, recent = _scattered_and_recent(_files(table), int(written_since.timestamp() * 1000))
        closed = range(date.min.toordinal() - _FIRST_OF_1970, before.toordinal() - _FIRST_OF_1970)
        return [
            nearest_date(day)
            for day in sorted(scattered | recent)
            if day in closed and (day in scattered or self._has_repeats(table, nearest_date(day)))
        ]

    def tidy(self, day: date) -> bool:
        """Rewrite one day in as few files as possible and with each event once, some warehouses per commit.

        Events are told apart as by `events`. Of an event's records the last is kept, because a record that was refused
        at first may have been sent again.
        False when others have written to the day meanwhile: then what they wrote to is as it was.
        """
        some_at_a_time = _warehouse_groups(_files(DeltaTable(self.url)), day)
        are_tidy = [self._tidy_warehouses(warehouses, day) for warehouses in some_at_a_time]
        return all(are_tidy)

    def _tidy_warehouses(self, warehouses: Collection[str], day: date) -> bool:
        table = DeltaTable(self.url)
        names = ", ".join(f'"{name}"' for name in self._rows.schema.names)
        partitions = ", ".join(map(quoted, warehouses))
        rows = (
            QueryBuilder()
            .register("events", table)
            .execute(
                f"""
                SELECT {names}
                  FROM (SELECT *, row_number() OVER (PARTITION BY {self._identity} ORDER BY "offset" DESC) AS place
                          FROM events WHERE "date" = DATE '{day}' AND "warehousePartition" IN ({partitions}))
                 WHERE place = 1
                """
            )
        )
        try:
            write_deltalake(
                table,
                # The engine answers in view types, which would be kept in the file and which readers cannot compare.
                pa.RecordBatchReader.from_stream(rows).cast(self._rows.schema),
                mode="overwrite",
                predicate=f"date = '{day}' AND \"warehousePartition\" IN ({partitions})",
                writer_properties=_ZSTD,
            )
        except CommitFailedError:
            return False
        failpoint("batch.lake.rewritten")
        return True

    def vacuum(self, retention: timedelta) -> int:
        """Delete the files that no version younger than `retention` needs, and condense the log; how many files.

        Versions older than that cannot be read any more.
        """
        return _vacuum(self.url, retention)

    def _has_repeats(self, table: DeltaTable, day: date) -> bool:
        repeated = pa.table(
            QueryBuilder()
            .register("events", table)
            .execute(
                f"""
                SELECT count(*) AS records FROM events
                 WHERE "date" = DATE '{day}' GROUP BY {self._identity} HAVING count(*) > 1 LIMIT 1
                """
            )
        )
        return repeated.num_rows > 0

    def _open(self) -> DeltaTable:
        if self._table is None:
            self._table = DeltaTable.create(
                self.url,
                self._rows.schema,
                mode="ignore",
                partition_by=list(PARTITION_COLUMNS),
                configuration=_CONFIGURATION,
            )
        return self._table

    def _check(self, table: DeltaTable, advances: Mapping[str, Advance]) -> None:
        stale = [writer for writer, advance in advances.items() if table.transaction_version(writer) != advance.before]
        if stale:
            raise StaleWriter(stale)


class PartitionedTable:
    """A table whose dates batch jobs replace. Every method blocks: call it in a thread.

    Its rows have a column `day`, whole days since 1970, of which the partition column `date` is the date.
    """

    def __init__(self, lake_url: str, name: str, schema: pa.Schema) -> None:
        self.name = name
        self.url = f"{lake_url.rstrip('/')}/batch/{name}"
        self._schema = schema.append(pa.field("date", pa.date32()))

    def replace(
        self, days: Sequence[int], rows: pa.RecordBatchReader, watermark: int, warehouse_id: str | None = None
    ) -> dict[date, int]:
        """Put these rows in place of all rows of these days, or of one warehouse's, in one commit; rows per date.

        Raises StaleWriter when the table has been written from a later watermark, and CommitFailedError when anybody
        has replaced days of it since this call began: all its commits move the same version, so Delta refuses ours.
        """
        table = DeltaTable.create(
            self.url, self._schema, mode="ignore", partition_by=["date"], configuration=_CONFIGURATION
        )
        latest = table.transaction_version(self.name)
        if latest is not None and latest > watermark:
            raise StaleWriter([self.name])
        write_deltalake(
            table,
            pa.RecordBatchReader.from_batches(self._schema, (self._dated(batch) for batch in rows)),
            mode="overwrite",
            # A table of an earlier release gets the columns that it lacks; they are null in its other rows.
            schema_mode="merge",
            predicate=_in_partitions(days, warehouse_id),
            writer_properties=_ZSTD,
            commit_properties=CommitProperties(app_transactions=[Transaction(self.name, watermark)]),
        )
        counts = self.rows_per_day()
        return {nearest_date(day): counts.get(day, 0) for day in days}

    def describe(self) -> Dataset | None:
        """What the table holds, from its commit log alone; None before the first commit."""
        return _describe(self.url, f"batch/{self.name}")

    def watermark(self) -> int | None:
        """The watermark of what was put in last; None before the first commit."""
        return DeltaTable(self.url).transaction_version(self.name) if DeltaTable.is_deltatable(self.url) else None

    def vacuum(self, retention: timedelta) -> int:
        """As that of a topic's table."""
        return _vacuum(self.url, retention)

    def days(self) -> list[int]:
        """The days that have rows, in order."""
        return sorted(self.rows_per_day())

    def files(self, first: int | None = None, last: int | None = None, warehouse_id: str | None = None) -> list[str]:
        """The Parquet files of the days from first to last, of all days by default.

        Those that hold nothing of a warehouse, as their statistics tell, may be left out.
        """
        if not DeltaTable.is_deltatable(self.url):
            return []
        bounds = [
            f"date {operator} '{nearest_date(day)}'"
            for operator, day in ((">=", first), ("<=", last))
            if day is not None
        ]
        bounds += [] if warehouse_id is None else [_of_warehouse(warehouse_id)]
        return DeltaTable(self.url).file_uris(file_pruning_predicate=" AND ".join(bounds) or None)

    def rows(self, days: Collection[int], schema: pa.Schema, warehouse_id: str | None = None) -> pa.RecordBatchReader:
        """The rows of these days, or of one warehouse's, without the partition column."""
        stored = DeltaTable(self.url).to_pyarrow_dataset(file_pruning_predicate=_in_partitions(days, warehouse_id))
        wanted = None if warehouse_id is None else pc.field("warehouse_id") == warehouse_id
        batches = stored.to_batches(columns=schema.names, filter=wanted, batch_size=ROWS_PER_BATCH)
        return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in batches))

    def _dated(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.append_column(self._schema.field("date"), batch["day"].cast(pa.date32()))

    def rows_per_day(self) -> Counter[int]:
        """Day -> its rows, from the commit log alone; 0 of days that have none."""
        counts: Counter[int] = Counter()
        if DeltaTable.is_deltatable(self.url):
            files = _files(DeltaTable(self.url))
            if files.num_rows:
                for day, rows in zip(days_since_1970(files["partition.date"]), files["num_records"], strict=True):
                    counts[day] += rows.as_py() or 0
        return counts


def tables(lake_url: str) -> list[LakeTable]:
    """The tables of all topics."""
    return [LakeTable(lake_url, topic) for topic in TOPICS]


def _describe(url: str, name: str) -> Dataset | None:
    if not DeltaTable.is_deltatable(url):
        return None
    table = DeltaTable(url)
    files = _files(table)
    days = days_since_1970(files["partition.date"]) if files.num_rows else []
    return Dataset(
        name=name,
        url=url,
        version=table.version(),
        files=files.num_rows,
        rows=pc.sum(files["num_records"]).as_py() or 0,
        size_bytes=pc.sum(files["size_bytes"]).as_py() or 0,
        first_date=nearest_date(min(days)) if days else None,
        last_date=nearest_date(max(days)) if days else None,
    )


def _vacuum(url: str, retention: timedelta) -> int:
    if not DeltaTable.is_deltatable(url):
        return 0
    table = DeltaTable(url)
    hours = int(retention.total_seconds() // 3600)
    deleted = table.vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False)
    failpoint("batch.lake.vacuumed")
    table.create_checkpoint()
    table.cleanup_metadata()
    return len(deleted)


def _files(table: DeltaTable) -> pa.Table:
    """One row per data file: its partition, rows and bytes."""
    return pa.table(table.get_add_actions(flatten=True))


def _scattered_and_recent(files: pa.Table, written_since_ms: int) -> tuple[set[int], set[int]]:
    """Days since 1970 of which some folder holds several files, and those of files that are not older."""
    if not files.num_rows:
        return set(), set()
    days = files["partition.date"].cast(pa.int32()).to_pylist()
    folders = Counter(zip(days, files["partition.warehousePartition"].to_pylist(), strict=True))
    written = zip(days, files["modification_time"].to_pylist(), strict=True)
    return (
        {day for (day, _), count in folders.items() if day is not None and count > 1},
        {day for day, at in written if day is not None and at is not None and at >= written_since_ms},
    )


def _warehouse_groups(files: pa.Table, day: date) -> list[list[str]]:
    """The warehouse partitions of a day, together at most ROWS_AT_A_TIME rows unless one alone has more."""
    rows_per_warehouse: Counter[str] = Counter()
    columns = (files[name].to_pylist() for name in ("partition.date", "partition.warehousePartition", "num_records"))
    for date_, warehouse, rows in zip(*columns, strict=True):
        if date_ == day:
            rows_per_warehouse[warehouse] += rows or 0
    return groups(rows_per_warehouse, ROWS_AT_A_TIME)


def groups(rows: Mapping[Key, int], most: int) -> list[list[Key]]:
    """The keys in order, so many together that they have at most so many rows, unless one alone has more."""
    found: list[list[Key]] = []
    together = 0
    for key in sorted(rows):
        together += rows[key]
        if found and together <= most:
            found[-1].append(key)
        else:
            found.append([key])
            together = rows[key]
    return found


def days_since_1970(dates: "pa.ChunkedArray[Any]") -> list[int]:
    """Dates as numbers, because a table may hold dates of years that Python has no date for."""
    return [days for days in dates.cast(pa.int32()).to_pylist() if days is not None]


def nearest_date(days: int) -> date:
    """The date so many days after the first of 1970, or the nearest that Python has."""
    return date.fromordinal(min(max(_FIRST_OF_1970 + days, date.min.toordinal()), date.max.toordinal()))


def _at_places(places: Collection[RecordId]) -> list[str]:
    """Conditions, of which one is true where a row stands at one of these places."""
    offsets: dict[tuple[str, int], list[int]] = defaultdict(list)
    for place in places:
        offsets[place.topic, place.partition].append(place.offset)
    return [
        f"""("topic" = '{topic}' AND "partition" = {partition} AND "offset" IN ({", ".join(map(str, numbers))}))"""
        for (topic, partition), numbers in offsets.items()
    ]


def _in_partitions(days: Collection[int], warehouse_id: str | None) -> str:
    """True for the rows of these days, or of one warehouse's."""
    dates = " OR ".join(_date_range_conditions(days))
    return dates if warehouse_id is None else f"({dates}) AND {_of_warehouse(warehouse_id)}"


def _of_warehouse(warehouse_id: str) -> str:
    return f"warehouse_id = {quoted(warehouse_id)}"


def quoted(text: str) -> str:
    """A string literal of SQL, where there are no parameters."""
    return "'" + text.replace("'", "''") + "'"


def _date_range_conditions(days: Collection[int]) -> list[str]:
    """Conditions, of which one is true for each of these days and none for any other."""
    ranges: list[tuple[int, int]] = []
    for day in sorted(days):
        if ranges and day == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], day
        else:
            ranges.append((day, day))
    return [f"(date >= '{nearest_date(first)}' AND date <= '{nearest_date(last)}')" for first, last in ranges]


def _date_ranges(files: pa.Table) -> list[tuple[int, int]]:
    """First and last days that together hold at most ROWS_AT_A_TIME rows, unless one day alone holds more."""
    rows_per_date: Counter[int] = Counter()
    if files.num_rows:
        for day, rows in zip(days_since_1970(files["partition.date"]), files["num_records"], strict=True):
            rows_per_date[day] += rows.as_py() or 0
    return [(days[0], days[-1]) for days in groups(rows_per_date, ROWS_AT_A_TIME)]
