"""What the reconciliation reads from the stores: the same of third parties everywhere, and sums of any size."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from libs.chassis.database import Connection, Pool
from libs.events import dead_letter, dead_letter_retry
from libs.events.decoding import Poison
from libs.events.inventory import ExternalInventoryUpdate, TransactionType
from libs.events.sink import PartitionBatch
from libs.events.topics import INVENTORY_EVENTS
from services.pipeline import reconciliation_queries
from services.pipeline.archive import LakeSink
from services.pipeline.cache import Cache
from services.pipeline.event_table import Row
from services.pipeline.kafka_log import TopicReading
from services.pipeline.lake import LakeTable
from services.pipeline.metrics import Metrics
from services.pipeline.settings import Settings
from services.pipeline.stores import read_lake
from services.pipeline.stream import GROUP, handle
from tests.factories import NOON, an_inventory_update
from tests.pipeline.batches import TOPIC, a_batch
from tests.pipeline.test_archive import claimed_epoch
from tests.pipeline.test_stream import an_external_update, apply

SMALLEST, LARGEST = -(2**63), 2**63 - 1


async def leave(connection: Connection, letter_id: int, event: ExternalInventoryUpdate) -> None:
    """Nobody has looked at the letter yet."""


async def retry(connection: Connection, letter_id: int, event: ExternalInventoryUpdate) -> None:
    await dead_letter_retry.retry(connection, handle, letter_id, by="operator")


async def edit(connection: Connection, letter_id: int, event: ExternalInventoryUpdate) -> None:
    edited = event.model_copy(update={"timestamp": NOON - timedelta(days=40)})
    await dead_letter_retry.retry(connection, handle, letter_id, by="operator", value=edited.model_dump_json().encode())


async def discard(connection: Connection, letter_id: int, event: ExternalInventoryUpdate) -> None:
    await dead_letter_retry.discard(connection, letter_id, by="operator", note="not ours")


Outcome = Callable[[Connection, int, ExternalInventoryUpdate], Awaitable[None]]
OUTCOMES: list[Outcome] = [leave, retry, edit, discard]


async def bury(connection: Connection, batch: PartitionBatch) -> int:
    """Keep the only record of a batch as a dead letter of the stream."""
    (received,) = batch.received
    poison = Poison(received.offset, received.record, "PoisonError", "refused")
    await dead_letter.bury(connection, GROUP, [replace(batch, received=[], poison=[poison])])
    letter_id: int = await connection.fetchval("SELECT id FROM dead_letter")
    return letter_id


async def external_counts(connection: Connection, lake_url: str, batch: PartitionBatch) -> list[int | None]:
    """Third parties' updates in the facts, in Kafka, which holds the batch, and in the lake."""
    dead = await reconciliation_queries.dead_places(connection, GROUP)
    kafka = TopicReading(dead)
    kafka.add([received.record for received in batch.received])
    facts = await reconciliation_queries.facts(connection, GROUP)
    return [facts.external, len(kafka.external), (await asyncio.to_thread(read_lake, lake_url, dead)).external]


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_stores_agree_on_third_parties_whatever_became_of_a_dead_letter(
    outcome: Outcome, pool: Pool, connection: Connection, tmp_path: Path
) -> None:
    good, refused = an_external_update(), an_external_update()
    everything = a_batch([good, refused])
    sink = LakeSink(pool, str(tmp_path), topic_prefix="")
    await sink.write([replace(everything, epoch=await claimed_epoch(sink))])
    await handle(connection, [a_batch([good])])

    await outcome(connection, await bury(connection, a_batch([refused], first_offset=1)), refused)

    assert await external_counts(connection, str(tmp_path), everything) == [1, 1, 1]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a_repeat_that_was_not_refused_counts_in_every_store(
    outcome: Outcome, is_first: bool, pool: Pool, connection: Connection, tmp_path: Path
) -> None:
    event = an_external_update()
    everything = a_batch([event, event])
    sink = LakeSink(pool, str(tmp_path), topic_prefix="")
    await sink.write([replace(everything, epoch=await claimed_epoch(sink))])
    repeat = a_batch([event], first_offset=1)
    letter_id = await bury(connection, a_batch([event]))

    if is_first:
        await handle(connection, [repeat])
    await outcome(connection, letter_id, event)
    if not is_first:
        await handle(connection, [repeat])

    assert await external_counts(connection, str(tmp_path), everything) == [1, 1, 1]


def test_one_event_id_on_two_days_is_two_updates(tmp_path: Path) -> None:
    event = an_external_update()
    other = event.model_copy(update={"timestamp": NOON - timedelta(days=1)})
    table = LakeTable(str(tmp_path), INVENTORY_EVENTS)
    table.append(
        table.event_table.rows([Row(TOPIC, 0, offset, each) for offset, each in enumerate((event, other))]), {}
    )

    assert read_lake(str(tmp_path), set()).external == 2


@pytest.mark.parametrize("is_tidy", [False, True])
@pytest.mark.parametrize("ours_first", [False, True])
def test_a_third_partys_event_under_the_id_of_a_ledger_entry_is_another(
    is_tidy: bool, ours_first: bool, tmp_path: Path
) -> None:
    ours = an_inventory_update()
    theirs = an_external_update().model_copy(update={"event_id": ours.event_id, "timestamp": ours.timestamp})
    events = [ours, theirs] if ours_first else [theirs, ours]
    table = LakeTable(str(tmp_path), INVENTORY_EVENTS)
    table.append(table.event_table.rows([Row(TOPIC, 0, offset, each) for offset, each in enumerate(events)]), {})
    day = ours.timestamp.date()
    assert table.untidy_days(date.max, NOON) == []
    if is_tidy:
        assert table.tidy(day)

    holding = read_lake(str(tmp_path), set())

    assert (holding.external, sum(tally.entries for tally in (holding.tallies or {}).values())) == (1, 1)
    assert table.count_entries(day, day) == {day: 1}


def test_the_lake_is_read_whatever_dates_it_holds(tmp_path: Path) -> None:
    table = LakeTable(str(tmp_path), INVENTORY_EVENTS)
    rows = table.event_table.rows([Row(TOPIC, 0, 0, an_external_update()), Row(TOPIC, 0, 1, an_inventory_update())])
    beyond_python = pa.array([3_000_000, -1_000_000], pa.int32()).cast(pa.date32())
    table.append(rows.set_column(rows.schema.get_field_index("date"), rows.schema.field("date"), beyond_python), {})

    holding = read_lake(str(tmp_path), set())
    dataset = table.describe()

    assert (holding.external, sum(tally.entries for tally in (holding.tallies or {}).values())) == (1, 1)
    assert dataset is not None
    assert (str(dataset.first_date), str(dataset.last_date)) == ("0001-01-01", "9999-12-31")


async def test_sums_of_more_than_64_bits_are_stored_read_and_published(
    settings: Settings, pool: Pool, connection: Connection, cache: Cache
) -> None:
    sales = [
        an_inventory_update("A", sequence, transaction_type=TransactionType.SALE, quantity_change=SMALLEST)
        for sequence in (1, 2, 3)
    ]
    await apply(connection, *sales[:2])
    await apply(connection, *sales[2:])
    await Metrics(settings, pool, cache).calculate_marked(asyncio.Event())

    daily = await reconciliation_queries.facts(connection, GROUP)
    hourly = await reconciliation_queries.hourly_facts(connection)

    for tallies in (daily.tallies, hourly.tallies):
        assert tallies is not None
        assert [tally.units for tally in tallies.values()] == [3 * SMALLEST]
    assert await connection.fetchval("SELECT demand_7 FROM stock_metric") == LARGEST
