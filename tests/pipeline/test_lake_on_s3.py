"""The lake on S3, as in production: address and keys from the environment, commits by conditional puts."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from pydantic import ValidationError

from libs.chassis.database import Connection, Pool
from libs.events.sink import Fenced
from libs.events.topics import INVENTORY_EVENTS
from services.pipeline.archive import LakeSink
from services.pipeline.event_table import Row
from services.pipeline.jobs.execution import Execution
from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.run import RunRequest, RunStatus
from services.pipeline.lake import LakeTable, is_transient
from services.pipeline.settings import Settings
from services.pipeline.stores import read_lake
from tests.examples.test_lake_readers import run
from tests.factories import an_inventory_update
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.pipeline.batch.test_inventory_etl import empty_outputs
from tests.pipeline.batch.test_runs import claim, start
from tests.pipeline.batches import a_batch
from tests.pipeline.test_archive import claimed_epoch
from tests.pipeline.test_lake_maintenance import append, files, maintain, offsets
from tests.s3_server import S3Server, s3_server
from tests.stack import Database

JANUARY = Interval(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 7, tzinfo=UTC))
_numbers = count(1)


@pytest.fixture(scope="module")
async def s3() -> AsyncIterator[S3Server]:
    """A server for all tests."""
    async with s3_server() as server:
        yield server


@pytest.fixture
async def lake_url(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the test's own, and the environment of a process that may use it."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"lake-{next(_numbers)}"
    await s3.create_bucket(bucket)
    return f"s3://{bucket}"


async def test_the_archive_writes_and_a_zombie_is_refused(pool: Pool, lake_url: str) -> None:
    zombie, successor = (LakeSink(pool, lake_url, topic_prefix="") for _ in range(2))
    old_epoch = await claimed_epoch(zombie)
    new_epoch = await claimed_epoch(successor)
    await successor.write([a_batch([an_inventory_update(sequence=1)], epoch=new_epoch)])

    with pytest.raises(Fenced):
        await zombie.write([a_batch([an_inventory_update(sequence=1)], epoch=old_epoch)])

    assert offsets(lake_url) == [0]


@pytest.mark.parametrize("address", ["gs://bucket", "s3a://bucket", "s3://"])
def test_other_addresses_are_refused_at_once(address: str, settings: Settings) -> None:
    with pytest.raises(ValidationError, match="lake_url"):
        Settings.model_validate(settings.model_dump() | {"lake_url": address})


@pytest.mark.slow
def test_writers_that_commit_at_the_same_time_overwrite_no_commit(lake_url: str) -> None:
    append(lake_url, 0, an_inventory_update(sequence=1))

    def write(offset: int) -> None:
        table = LakeTable(lake_url, INVENTORY_EVENTS)
        rows = table.event_table.rows([Row(INVENTORY_EVENTS.name, 1, offset, an_inventory_update(sequence=offset))])
        table.append(rows, {})

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(1, 13)))

    assert offsets(lake_url) == list(range(13))


@pytest.mark.slow
def test_a_closed_day_is_compacted_and_old_files_are_deleted(lake_url: str) -> None:
    for number in range(3):
        append(lake_url, number, an_inventory_update(sequence=number + 1))

    maintain(lake_url, retention=timedelta())

    assert (files(lake_url), offsets(lake_url)) == (1, [0, 1, 2])


@pytest.mark.slow
@pytest.mark.parametrize("example", ["read_lake_duckdb.py", "read_lake_polars.py", "read_lake_pyarrow.py"])
def test_the_examples_read_it(example: str, lake_url: str) -> None:
    append(lake_url, 0, an_inventory_update(sequence=1, quantity_change=-5))

    found = run(example, lake_url)

    assert "5" in found.split("2026-03-02")[1]


@pytest.mark.slow
def test_the_reconciliation_reads_it(lake_url: str) -> None:
    append(lake_url, 0, an_inventory_update(sequence=1, quantity_change=-5))

    tallies = read_lake(lake_url, []).tallies
    assert tallies is not None
    assert [(tally.entries, tally.units) for tally in tallies.values()] == [(1, -5)]


@pytest.mark.slow
async def test_a_server_that_is_away_only_delays(pool: Pool, lake_url: str, s3: S3Server) -> None:
    sink = LakeSink(pool, lake_url, topic_prefix="")
    epoch = await claimed_epoch(sink)

    s3.pause()
    writing = asyncio.create_task(sink.write([a_batch([an_inventory_update(sequence=1)], epoch=epoch)]))
    await asyncio.sleep(2)
    assert not writing.done()
    s3.go_on()
    await writing

    assert offsets(lake_url) == [0]


@pytest.mark.slow
async def test_a_server_that_cannot_be_reached_is_asked_again_later(
    pool: Pool, lake_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    with pytest.raises(Exception) as refused:
        await claimed_epoch(LakeSink(pool, lake_url, topic_prefix=""))

    assert is_transient(refused.value)


@pytest.mark.slow
async def test_batch_jobs_work_on_it(
    pool: Pool, settings: Settings, connection: Connection, database: Database, lake_url: str
) -> None:
    await ledger.empty(database)
    await empty_outputs(database)
    await ledger.post(database, [on(5, 9, "RECEIPT"), on(5, -2), on(6, -1)])

    for full in (False, True):
        parameters = {"full": True} if full else {}
        run_id = await start(pool, RunRequest("inventory_etl", JANUARY, "test", parameters=parameters))
        on_s3 = settings.model_copy(update={"lake_url": lake_url})
        assert await Execution(await claim(pool, run_id), pool, on_s3).run() is RunStatus.SUCCEEDED

        snapshots = await connection.fetch("SELECT date, quantity_on_hand FROM daily_snapshot ORDER BY date LIMIT 2")
        assert [row["quantity_on_hand"] for row in snapshots] == [7, 6]
