"""The lake: each record once, offsets in the commit, zombies refused, and rows that say all that events say."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pyarrow as pa
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError
from pydantic import ValidationError

from libs.chassis.database import Connection, Pool
from libs.events.analytics import DataQualityAlert, Severity
from libs.events.decoding import Poison
from libs.events.envelope import BaseEvent
from libs.events.inventory import TransactionLine, TransactionPosted, TransactionType
from libs.events.sink import Fenced
from libs.events.topics import ANALYTICS_EVENTS, INVENTORY_EVENTS, TOPICS
from services.pipeline.archive import GROUP, LakeSink
from services.pipeline.event_table import EventTable, models_of, warehouse_partition
from services.pipeline.lake import LakeTable, is_transient
from services.pipeline.settings import Settings
from tests.factories import NOON, an_inventory_update
from tests.pipeline.batches import TOPIC, a_batch
from tests.pipeline.test_stream import an_external_update

FIRST, SECOND = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """A lake of the test's own."""
    return str(tmp_path / "lake")


@pytest.fixture
def sink(pool: Pool, lake: str) -> LakeSink:
    """A sink of one process."""
    return LakeSink(pool, lake, topic_prefix="")


def a_document() -> TransactionPosted:
    line = TransactionLine(
        line_no=1, sku="A", warehouse_id="W", quantity_change=-3, sequence=1, unit_price=Decimal("2.5")
    )
    return TransactionPosted(
        event_id=uuid4(),
        quantity_change=-3,
        timestamp=NOON,
        recorded_at=NOON,
        source="api",
        transaction_id=uuid4(),
        transaction_type=TransactionType.SALE,
        actor="somebody",
        line_count=1,
        lines=[line],
    )


async def claimed_epoch(sink: LakeSink, partition: TopicPartition = FIRST) -> int:
    return (await sink.claim([partition]))[partition].epoch


def offsets(lake: str, topic: str = TOPIC) -> list[int]:
    """The offsets of all rows of a topic, as any reader of Delta sees them."""
    table = DeltaTable(f"{lake}/{topic}").to_pyarrow_table(columns=["offset"])
    return sorted(row["offset"] for row in table.to_pylist())


async def test_the_next_claim_goes_on_after_the_last_commit(sink: LakeSink, pool: Pool, lake: str) -> None:
    epoch = await claimed_epoch(sink)
    await sink.write([a_batch([an_inventory_update(sequence=1), an_inventory_update(sequence=2)], epoch=epoch)])

    claim = (await LakeSink(pool, lake, topic_prefix="").claim([FIRST, SECOND]))[FIRST]

    assert (claim.next_offset, claim.epoch) == (2, epoch + 1)
    assert claim.anchor == str(an_inventory_update(sequence=2).event_id)


async def test_a_write_repeated_after_an_error_adds_nothing(sink: LakeSink, lake: str) -> None:
    batch = a_batch([an_inventory_update()], epoch=await claimed_epoch(sink))

    await sink.write([batch])
    await sink.write([batch])

    assert offsets(lake) == [0]


async def test_a_crash_between_the_lake_and_postgres_loses_and_repeats_nothing(
    sink: LakeSink, pool: Pool, lake: str, connection: Connection
) -> None:
    epoch = await claimed_epoch(sink)
    await sink.write([a_batch([an_inventory_update(sequence=1)], epoch=epoch)])
    await connection.execute("UPDATE consumer_offset SET next_offset = 0")

    claim = (await LakeSink(pool, lake, topic_prefix="").claim([FIRST]))[FIRST]

    assert (claim.next_offset, claim.anchor) == (1, None)


async def test_a_zombie_is_refused_and_the_new_owner_is_not(sink: LakeSink, pool: Pool, lake: str) -> None:
    old_epoch = await claimed_epoch(sink)
    successor = LakeSink(pool, lake, topic_prefix="")
    new_epoch = await claimed_epoch(successor)
    await successor.write([a_batch([an_inventory_update(sequence=1)], epoch=new_epoch)])

    with pytest.raises(Fenced) as fenced:
        await sink.write([a_batch([an_inventory_update(sequence=1)], epoch=old_epoch)])

    assert fenced.value.partitions == {FIRST}
    await successor.write([a_batch([an_inventory_update(sequence=2)], epoch=new_epoch, first_offset=1)])
    assert offsets(lake) == [0, 1]


async def test_a_write_that_outlives_its_lease_takes_nothing_from_the_next_one(sink: LakeSink, lake: str) -> None:
    old_epoch = await claimed_epoch(sink)
    new_epoch = await claimed_epoch(sink)
    with pytest.raises(Fenced):  # Only by Postgres: it had come to the lake before its successor.
        await sink.write([a_batch([an_inventory_update()], epoch=old_epoch)])

    with pytest.raises(Fenced):  # It claimed the partition before that, and would begin where the other did.
        await sink.write([a_batch([an_inventory_update()], epoch=new_epoch)])

    assert offsets(lake) == [0]


async def test_processes_with_different_partitions_do_not_disturb_each_other(
    sink: LakeSink, pool: Pool, lake: str
) -> None:
    other = LakeSink(pool, lake, topic_prefix="")
    epochs = await claimed_epoch(sink), await claimed_epoch(other, SECOND)

    async def write(sink: LakeSink, partition: int) -> None:
        for offset in range(5):
            entry = an_inventory_update(f"SKU-{partition}", offset + 1)
            await sink.write([a_batch([entry], partition=partition, first_offset=offset, epoch=epochs[partition])])

    await asyncio.gather(write(sink, 0), write(other, 1))

    assert offsets(lake) == sorted([*range(5), *range(5)])


async def test_poison_is_kept_in_postgres_and_its_offset_is_passed(
    sink: LakeSink, lake: str, connection: Connection
) -> None:
    record = ConsumerRecord(TOPIC, 0, 1, 0, 0, b"key", b"not json", None, 0, 8, ())
    batch = a_batch([an_inventory_update()], epoch=await claimed_epoch(sink))

    await sink.write([replace(batch, poison=[Poison(1, record, "NotAnEvent", "not JSON")], next_offset=2)])

    kept = await connection.fetchrow("SELECT group_name, record_offset, value FROM dead_letter")
    assert tuple(kept or ()) == (GROUP, 1, b"not json")
    assert offsets(lake) == [0]
    assert await connection.fetchval("SELECT next_offset FROM consumer_offset WHERE partition = 0") == 2


async def test_a_topic_read_again_from_its_beginning_is_written_again(sink: LakeSink, pool: Pool, lake: str) -> None:
    epoch = await claimed_epoch(sink)
    await sink.write([a_batch([an_inventory_update(sequence=number) for number in (1, 2, 3)], epoch=epoch)])
    restarted = LakeSink(pool, lake, topic_prefix="")
    epoch = await claimed_epoch(restarted)

    await restarted.write([a_batch([an_inventory_update(sequence=1)], epoch=epoch)])

    assert (await restarted.claim([FIRST]))[FIRST].next_offset == 1
    assert read(lake, "sequence") == [1, 2, 3]


def read(lake: str, column: str) -> list[Any]:
    """What our reader gives: each event once."""
    tables = LakeTable(lake, INVENTORY_EVENTS).events("INVENTORY_UPDATE", [column])
    return sorted(value for table in tables for value in table[column].to_pylist())


async def test_any_tool_reads_rows_that_say_what_the_events_say(sink: LakeSink, lake: str) -> None:
    document = a_document()
    events: Sequence[BaseEvent] = [
        an_inventory_update("A", warehouse_id="United Kingdom", unit_price=Decimal("1.250001")),
        an_inventory_update("B", warehouse_id="x/y:z%20"),
        document,
        an_external_update(),
    ]
    await sink.write([a_batch(events, epoch=await claimed_epoch(sink))])

    columns = ("warehouseId", "eventType", "sequence", "unitPrice", "transactionId", "lines", "date")
    found = duckdb.sql(
        f"""
        SELECT {", ".join(f'"{column}"' for column in columns)}
          FROM read_parquet('{lake}/{TOPIC}/**/*.parquet', hive_partitioning = true, union_by_name = true)
         ORDER BY "offset"
        """
    )
    assert found is not None
    first, second, third, fourth = (dict(zip(columns, row, strict=True)) for row in found.fetchall())

    assert (first["warehouseId"], first["unitPrice"], first["sequence"]) == ("United Kingdom", Decimal("1.250001"), 1)
    assert second["warehouseId"] == "x/y:z%20"
    assert (third["warehouseId"], third["transactionId"]) == (None, str(document.transaction_id))
    assert third["lines"][0]["quantityChange"] == -3
    assert (fourth["sequence"], fourth["eventType"]) == (None, "INVENTORY_UPDATE")
    assert {str(row["date"]) for row in (first, second, third, fourth)} == {NOON.date().isoformat()}


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_the_schema_has_every_field_of_every_event(topic: Any) -> None:
    names = set(EventTable(models_of(topic.events)).schema.names)

    for model in topic.events:
        assert {field.alias for field in model.model_fields.values()} <= names


async def test_objects_without_a_model_are_kept_as_json(sink: LakeSink, lake: str) -> None:
    alert = DataQualityAlert(
        event_id=uuid4(),
        sku=None,
        warehouse_id=None,
        timestamp=NOON,
        recorded_at=NOON,
        source="quality",
        alert_id=uuid4(),
        revision=1,
        rule_id="INV-04",
        severity=Severity.CRITICAL,
        failed=2,
        figures={"limit": 0},
        suggested_action="look",
    )
    partition = TopicPartition(ANALYTICS_EVENTS.name, 0)
    epoch = await claimed_epoch(sink, partition)

    await sink.write([a_batch([alert], topic=partition.topic, epoch=epoch)])

    rows = (
        DeltaTable(f"{lake}/{partition.topic}").to_pyarrow_table(columns=["figures", "warehousePartition"]).to_pylist()
    )
    assert rows == [{"figures": '{"limit":0}', "warehousePartition": "_none"}]


AWKWARD = [
    "\N{GRINNING FACE}" * 64,
    "_none",
    "__HIVE_DEFAULT_PARTITION__",
    "a/b",
    "..",
    "~0",
    "%" * 64,
    "\N{MICRO SIGN}" * 64,
]


async def test_every_legal_warehouse_is_stored_under_its_own_id(sink: LakeSink, lake: str) -> None:
    entries = [an_inventory_update(warehouse_id=warehouse_id) for warehouse_id in AWKWARD]

    await sink.write([a_batch(entries, epoch=await claimed_epoch(sink))])

    assert read(lake, "warehouseId") == sorted(AWKWARD)
    found = duckdb.sql(f"SELECT \"warehouseId\" FROM read_parquet('{lake}/{TOPIC}/**/*.parquet')")
    assert found is not None
    assert sorted(warehouse_id for (warehouse_id,) in found.fetchall()) == sorted(AWKWARD)


def test_no_two_warehouses_share_a_partition() -> None:
    partitions = [warehouse_partition(warehouse_id) for warehouse_id in [None, "W", *AWKWARD]]

    assert partitions[:2] == ["_none", "W"]
    assert len(set(partitions)) == len(partitions)
    assert all(warehouse_partition(partition) != partition for partition in partitions if partition[0] == "~")


def test_what_cannot_be_stored_is_not_tried_for_ever(tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    write_deltalake(table, pa.table({"name": ["a"], "number": [1]}), partition_by=["name"])

    with pytest.raises(DeltaError) as too_long:
        write_deltalake(table, pa.table({"name": ["n" * 300], "number": [1]}), mode="append")
    with pytest.raises(DeltaError) as not_a_number:
        write_deltalake(table, pa.table({"name": ["a"], "number": ["text"]}), mode="append")

    assert not is_transient(too_long.value)
    assert not is_transient(not_a_number.value)
    assert not is_transient(pa.ArrowInvalid("no such time"))
    assert is_transient(OSError("Generic S3 error: Connection refused (os error 111)"))
    assert is_transient(DeltaError("Generic LocalFileSystem error: No space left on device (os error 28)"))


async def test_dead_letters_are_appended_when_their_time_has_come(sink: LakeSink, pool: Pool, lake: str) -> None:
    epoch = await claimed_epoch(sink)
    batch = a_batch([an_inventory_update(), an_external_update()], epoch=epoch)
    poison = [Poison(item.offset, item.record, "OverflowError", "too large") for item in batch.received]
    await sink.write([replace(batch, received=[], poison=poison)])
    await pool.execute("UPDATE dead_letter SET updated_at = now() - interval '2 minutes' WHERE group_name = $1", GROUP)

    await sink.retry_dead_letters()

    assert offsets(lake) == [0, 1]
    statuses = await pool.fetch("SELECT DISTINCT status FROM dead_letter WHERE group_name = $1", GROUP)
    assert [row["status"] for row in statuses] == ["resolved"]


@pytest.mark.parametrize("lake_url", ["~/lake", "/tmp/a%20b", "/tmp/a\nb"])
def test_a_folder_that_not_everybody_would_find_is_refused(lake_url: str, settings: Settings) -> None:
    with pytest.raises(ValidationError, match="a folder must not"):
        Settings.model_validate({**settings.model_dump(), "lake_url": lake_url})
