"""Maintenance of the lake: fewer files, each event once, nothing lost, and old versions for as long as promised."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from libs.events.envelope import BaseEvent
from libs.events.topics import INVENTORY_EVENTS
from services.pipeline import lake_maintenance
from services.pipeline.event_table import Row
from services.pipeline.jobs.contract import ITEM_DAYS
from services.pipeline.lake import Advance, LakeTable, PartitionedTable
from tests.factories import NOON, an_inventory_update

WRITER = "archive:inventory-events:0"
THE_DAY_AFTER = NOON + timedelta(days=1)


@pytest.fixture
def lake_url(tmp_path: Path) -> str:
    """An empty lake."""
    return str(tmp_path / "lake")


def append(lake_url: str, offset: int, *events: BaseEvent) -> None:
    """What the archive does with records of partition 0, the first of them at `offset`."""
    table = LakeTable(lake_url, INVENTORY_EVENTS)
    rows = [Row(INVENTORY_EVENTS.name, 0, offset + place, event) for place, event in enumerate(events)]
    advance = Advance(table.versions([WRITER])[WRITER], offset + len(events))
    table.append(table.event_table.rows(rows), {WRITER: advance})


def maintain(lake_url: str, now: datetime = THE_DAY_AFTER, retention: timedelta = timedelta(days=7)) -> None:
    lake_maintenance.maintain(asyncio.Event(), lake_url, now, retention)


def stored(lake_url: str, version: int | None = None) -> pa.Table:
    return DeltaTable(f"{lake_url}/{INVENTORY_EVENTS.name}", version=version).to_pyarrow_table()


def offsets(lake_url: str) -> list[int]:
    return sorted(row["offset"] for row in stored(lake_url).select(["offset"]).to_pylist())


def files(lake_url: str) -> int:
    return len(DeltaTable(f"{lake_url}/{INVENTORY_EVENTS.name}").file_uris())


def test_a_closed_day_becomes_one_file_with_the_same_rows(lake_url: str) -> None:
    for number in range(1, 6):
        append(lake_url, number - 1, an_inventory_update(sequence=number, unit_price=Decimal("1.25")))
    before = stored(lake_url).sort_by("offset")

    maintain(lake_url)

    (path,) = DeltaTable(f"{lake_url}/{INVENTORY_EVENTS.name}").file_uris()
    assert "view" not in str(pq.read_schema(path))
    assert stored(lake_url).sort_by("offset").to_pylist() == before.to_pylist()


@pytest.mark.parametrize("commits", ["one", "two"])
def test_of_the_records_of_an_event_the_last_is_kept(lake_url: str, commits: str) -> None:
    entry, other = an_inventory_update(sequence=1), an_inventory_update(sequence=2)
    if commits == "one":
        append(lake_url, 0, entry, other, entry)
    else:
        append(lake_url, 0, entry, other)
        append(lake_url, 2, entry)

    maintain(lake_url, now=datetime.now(UTC))

    assert offsets(lake_url) == [1, 2]


def test_a_day_of_many_rows_is_rewritten_some_warehouses_at_a_time(
    lake_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouses = ["O'HARE", "W2", "W3"]
    for sequence in (1, 2):
        entries = [an_inventory_update(sequence=sequence, warehouse_id=warehouse) for warehouse in warehouses]
        append(lake_url, 3 * (sequence - 1), *entries)
    table = LakeTable(lake_url, INVENTORY_EVENTS)
    monkeypatch.setattr("services.pipeline.lake.ROWS_AT_A_TIME", 4)
    version = DeltaTable(table.url).version()

    assert table.tidy(NOON.date())

    assert DeltaTable(table.url).version() == version + 2
    assert (files(lake_url), offsets(lake_url)) == (3, [0, 1, 2, 3, 4, 5])


def test_an_open_day_is_left_alone(lake_url: str) -> None:
    append(lake_url, 0, an_inventory_update(sequence=1))
    append(lake_url, 1, an_inventory_update(sequence=2))

    maintain(lake_url, now=NOON + timedelta(hours=12, minutes=59))

    assert files(lake_url) == 2


def test_a_tidy_lake_is_not_rewritten(lake_url: str) -> None:
    append(lake_url, 0, an_inventory_update(sequence=1))
    append(lake_url, 1, an_inventory_update(sequence=2))
    maintain(lake_url)
    version = DeltaTable(f"{lake_url}/{INVENTORY_EVENTS.name}").version()

    maintain(lake_url)

    assert LakeTable(lake_url, INVENTORY_EVENTS).untidy_days(THE_DAY_AFTER.date(), NOON) == []
    assert DeltaTable(f"{lake_url}/{INVENTORY_EVENTS.name}", version=version).to_pyarrow_table().num_rows == 2


def test_the_archive_goes_on_where_it_was(lake_url: str) -> None:
    append(lake_url, 0, an_inventory_update(sequence=1))
    append(lake_url, 1, an_inventory_update(sequence=2))
    maintain(lake_url)

    append(lake_url, 2, an_inventory_update(sequence=3))

    assert LakeTable(lake_url, INVENTORY_EVENTS).versions([WRITER]) == {WRITER: 3}
    assert offsets(lake_url) == [0, 1, 2]


def test_a_day_that_is_written_meanwhile_is_left_for_the_next_time(
    lake_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(lake_url, 0, an_inventory_update(sequence=1))
    append(lake_url, 1, an_inventory_update(sequence=2))
    rewriting = LakeTable(lake_url, INVENTORY_EVENTS)
    open_snapshot = DeltaTable(rewriting.url)
    append(lake_url, 2, an_inventory_update(sequence=3))
    monkeypatch.setattr("services.pipeline.lake.DeltaTable", lambda _url: open_snapshot)

    rewritten = rewriting.tidy(NOON.date())

    monkeypatch.undo()
    assert not rewritten
    assert offsets(lake_url) == [0, 1, 2]


def test_old_versions_are_readable_within_the_retention_only(lake_url: str) -> None:
    append(lake_url, 0, an_inventory_update(sequence=1))
    append(lake_url, 1, an_inventory_update(sequence=2))
    first = 1

    maintain(lake_url)
    assert stored(lake_url, version=first).num_rows == 1

    maintain(lake_url, retention=timedelta())
    with pytest.raises(OSError, match=r"(?i)not found|no such file"):
        stored(lake_url, version=first)
    assert stored(lake_url).num_rows == 2


def test_datasets_of_batch_jobs_keep_old_versions_as_long(lake_url: str) -> None:
    table = PartitionedTable(lake_url, ITEM_DAYS.dataset, ITEM_DAYS.schema)
    columns = {name: ["A"] if name in ("sku", "warehouse_id") else [1] for name in ITEM_DAYS.schema.names}
    for _ in range(2):
        table.replace([1], pa.table(columns, ITEM_DAYS.schema).to_reader(), 1)
    written = list(Path(table.url).glob("date=*/*.parquet"))

    maintain(lake_url)
    kept = list(Path(table.url).glob("date=*/*.parquet"))
    maintain(lake_url, retention=timedelta())

    assert len(written) == len(kept) == 2
    assert list(map(str, Path(table.url).glob("date=*/*.parquet"))) == table.files()
