"""`inventory_etl` on real servers: what it replaces, when entries come late, when rows are bad."""

import asyncio
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from libs.chassis.database import Connection, Pool
from libs.events.analytics import AnalyticsEvent
from services.pipeline.jobs import contract, extraction, run_queries
from services.pipeline.jobs.execution import Execution
from services.pipeline.jobs.fence import Fence
from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.run import RunRequest, RunStatus
from services.pipeline.lake import PartitionedTable
from services.pipeline.settings import Settings
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.pipeline.batch.test_runs import claim, start
from tests.stack import Database

AnalyticsEvents = TypeAdapter(list[AnalyticsEvent])
DATASETS = ("dataset_watermark", "dataset_partition", "partition_quality", "quarantine")
OUTPUTS = ("daily_snapshot", "daily_metric")
CONTRACTS = {
    each.dataset: each
    for each in (contract.LEDGER_ENTRIES, contract.ITEM_DAYS, contract.DAILY_SNAPSHOT, contract.DAILY_METRIC)
}


@pytest.fixture(autouse=True)
async def _empty(database: Database) -> None:
    await ledger.empty(database)
    await empty_outputs(database)


async def empty_outputs(database: Database) -> None:
    """Forget everything that batch jobs have kept in Postgres."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        for table in (*DATASETS, *OUTPUTS, "movement_aggregate"):
            await connection.execute(f"DELETE FROM pipeline.{table}")
    finally:
        await connection.close()


async def run(
    pool: Pool, settings: Settings, first: int, last: int, *, full: bool = False, warehouse_id: str | None = None
) -> dict[str, Any]:
    """Run the job over days of January 2026; step -> its row."""
    interval = Interval(datetime(2026, 1, first, tzinfo=UTC), datetime(2026, 1, last + 1, tzinfo=UTC))
    parameters = {"full": True} if full else {}
    request = RunRequest("inventory_etl", interval, "test", parameters=parameters, warehouse_id=warehouse_id)
    run_id = await start(pool, request)
    status = await Execution(await claim(pool, run_id), pool, settings).run()
    async with pool.acquire() as connection:
        steps = await run_queries.steps_of(connection, [run_id])  # type: ignore[arg-type]
    return {"status": status, **{step["step"]: step for step in steps}}


async def rows(connection: Connection, table: str) -> list[tuple[Any, ...]]:
    """All rows of an output, in order."""
    return [tuple(row) for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4")]


async def versions(connection: Connection, table: str) -> list[tuple[Any, ...]]:
    """Which transaction wrote each row of the warehouses other than X."""
    found = await connection.fetch(
        f"SELECT date, sku, warehouse_id, xmin::text FROM {table} WHERE warehouse_id <> 'X' ORDER BY 1, 2, 3"
    )
    return [tuple(row) for row in found]


def lake_rows(settings: Settings, name: str) -> list[str]:
    """All rows of a dataset of the lake, in some order that is always the same."""
    table = PartitionedTable(settings.lake_url, name, CONTRACTS[name].schema)
    return sorted(map(str, table.rows(table.days(), CONTRACTS[name].schema).read_all().to_pylist()))


def damage_lake(settings: Settings, *names: str, on_days: list[int]) -> None:
    """Take the rows of these days of January from datasets of the lake, behind everybody's back."""
    for name in names:
        schema = CONTRACTS[name].schema
        table = PartitionedTable(settings.lake_url, name, schema)
        days = [(date(2026, 1, day) - date(1970, 1, 1)).days for day in on_days]
        table.replace(days, pa.RecordBatchReader.from_batches(schema, []), table.watermark() or 0)


def days(step: Any) -> list[int]:
    """The days of January that a step replaced."""
    return [int(name[-2:]) for name in step["partitions"]]


async def test_snapshots_hold_the_stock_of_each_day_with_names_and_value(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(2, -3), on(4, -2), on(4, 5, "RECEIPT", "B")])

    steps = await run(pool, settings, 1, 4)

    assert steps["status"] is RunStatus.SUCCEEDED
    snapshots = await connection.fetch("SELECT * FROM snapshots_v1 ORDER BY date, sku")
    assert [(row["date"].day, row["sku"], row["quantity_on_hand"], row["units_out"]) for row in snapshots] == [
        (1, "A", 10, 0),
        (2, "A", 7, 3),
        (3, "A", 7, 0),
        (4, "A", 5, 2),
        (4, "B", 5, 0),
    ]
    assert [tuple(snapshots[3].values())[6:]] == [("Product A", "toys", "Toys", "Warehouse X", 12.5)]
    metrics = await connection.fetch("SELECT * FROM daily_metrics_v1 WHERE date = '2026-01-04' ORDER BY sku")
    assert [(row["demand_7"], row["velocity_7"], row["direction"]) for row in metrics] == [
        (5, 5 / 7, "UP"),
        (0, 0, "FLAT"),
    ]
    assert metrics[0]["days_of_supply"] == pytest.approx(5 / (5 / 30))
    assert 0 < metrics[0]["stockout_risk"] < 1
    assert metrics[1]["stockout_risk"] == 0


async def test_late_entries_replace_exactly_the_days_that_follow_from_them(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), *(on(day, -1) for day in (2, 3, 4))])
    await run(pool, settings, 1, 4)

    await ledger.post(database, [on(3, -2)])
    late = await run(pool, settings, 5, 5)
    again = await run(pool, settings, 5, 5)

    assert days(late["extract_inventory_data"]) == [3, 5]  # the late one, and the empty day of the interval
    assert late["extract_inventory_data"]["rows_out"] == 2
    assert days(late["transform_and_load"]) == days(late["generate_aggregated_metrics"]) == [3, 4, 5]
    assert days(again["transform_and_load"]) == days(again["generate_aggregated_metrics"]) == [5]  # its own alone
    incremental = [await rows(connection, table) for table in OUTPUTS]

    await empty_outputs(database)
    await run(pool, settings, 1, 5, full=True)

    assert [await rows(connection, table) for table in OUTPUTS] == incremental


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_a_run_replaces_the_dates_of_its_interval_whatever_they_hold(
    pool: Pool, settings: Settings, connection: Connection, database: Database, full: bool
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), *(on(day, -1) for day in (2, 3, 4))])
    await run(pool, settings, 1, 4)
    right = {table: await rows(connection, table) for table in OUTPUTS}
    lake = {name: lake_rows(settings, name) for name in CONTRACTS}
    damaged = ("2026-01-02", "2026-01-03") if full else ("2026-01-02",)
    for table in OUTPUTS:
        await connection.execute(f"DELETE FROM {table} WHERE date = ANY($1::text[]::date[])", damaged)
    damage_lake(settings, *OUTPUTS, on_days=[2, 3] if full else [2])

    steps = await run(pool, settings, 2, 2, full=full)

    assert steps["status"] is RunStatus.SUCCEEDED
    assert days(steps["extract_inventory_data"]) == [2]
    assert (
        days(steps["transform_and_load"]) == days(steps["generate_aggregated_metrics"]) == ([2, 3, 4] if full else [2])
    )
    assert {table: await rows(connection, table) for table in OUTPUTS} == right
    assert {name: lake_rows(settings, name) for name in CONTRACTS} == lake


async def test_what_follows_from_a_damaged_date_is_calculated_again(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), *(on(day, -1) for day in (2, 3, 4))])
    await run(pool, settings, 1, 4)
    right = {table: await rows(connection, table) for table in OUTPUTS}
    lake = {name: lake_rows(settings, name) for name in CONTRACTS}
    damage_lake(settings, "item_days", "ledger_entries", on_days=[2])

    steps = await run(pool, settings, 4, 4)

    assert days(steps["extract_inventory_data"]) == [2, 4]
    assert days(steps["transform_and_load"]) == [2, 3, 4]
    assert {table: await rows(connection, table) for table in OUTPUTS} == right
    assert {name: lake_rows(settings, name) for name in CONTRACTS} == lake


async def test_runs_of_different_dates_go_on_side_by_side(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), *(on(day, -1) for day in (2, 3, 4))])
    await run(pool, settings, 1, 4)
    right = {table: await rows(connection, table) for table in OUTPUTS}
    await ledger.post(database, [on(2, 5, "RECEIPT", "B")])
    for table in OUTPUTS:
        await connection.execute(f"DELETE FROM {table} WHERE date >= '2026-01-03'")

    both = await asyncio.gather(run(pool, settings, 3, 3), run(pool, settings, 4, 4))

    assert [each["status"] for each in both] == [RunStatus.SUCCEEDED, RunStatus.SUCCEEDED]
    first, second = ([step for name, step in each.items() if name != "status"] for each in both)
    assert min(step["started_at"] for step in second) < max(step["finished_at"] for step in first)
    assert min(step["started_at"] for step in first) < max(step["finished_at"] for step in second)
    others = {table: [row for row in await rows(connection, table) if row[1] == "A"] for table in OUTPUTS}
    assert [tuple(row) for row in others["daily_snapshot"]] == right["daily_snapshot"]
    snapshots_of_b = [row[0].day for row in await rows(connection, "daily_snapshot") if row[1] == "B"]
    assert snapshots_of_b == [2, 3, 4]


async def test_a_run_of_one_warehouse_replaces_its_partitions_only(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    opened = [on(1, 10, "OPENING_BALANCE", warehouse_id=warehouse_id) for warehouse_id in "XY"]
    await ledger.post(database, [*opened, *(on(day, -1, warehouse_id=each) for day in (2, 3) for each in "XY")])
    await run(pool, settings, 1, 3)
    right = [await rows(connection, table) for table in OUTPUTS]
    others = [await versions(connection, table) for table in OUTPUTS]
    lake = {table: lake_rows(settings, table) for table in ("ledger_entries", "item_days", *OUTPUTS)}
    for table in OUTPUTS:
        await connection.execute(f"DELETE FROM {table} WHERE warehouse_id = 'X' AND date = '2026-01-02'")

    steps = await run(pool, settings, 2, 2, warehouse_id="X")

    assert steps["status"] is RunStatus.SUCCEEDED
    assert (steps["extract_inventory_data"]["rows_in"], steps["transform_and_load"]["rows_out"]) == (1, 2)
    assert days(steps["extract_inventory_data"]) == [2]
    assert days(steps["transform_and_load"]) == days(steps["generate_aggregated_metrics"]) == [2, 3]
    assert [await rows(connection, table) for table in OUTPUTS] == right
    assert [await versions(connection, table) for table in OUTPUTS] == others
    assert {table: lake_rows(settings, table) for table in lake} == lake
    partitions = await connection.fetch("SELECT rows FROM dataset_partition WHERE dataset = 'daily_metric'")
    assert [row["rows"] for row in partitions] == [2, 2, 2]


@pytest.mark.slow
async def test_what_a_run_of_one_warehouse_left_to_others_is_not_lost(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    opened = [on(1, 10, "OPENING_BALANCE", warehouse_id=warehouse_id) for warehouse_id in "XY"]
    await ledger.post(database, [*opened, on(3, -1)])
    await run(pool, settings, 1, 3)
    await ledger.post(database, [on(2, -2, warehouse_id=warehouse_id) for warehouse_id in "XY"])

    await run(pool, settings, 2, 2, warehouse_id="X")
    after_x = await connection.fetch("SELECT * FROM daily_snapshot WHERE date = '2026-01-03' ORDER BY warehouse_id")
    await run(pool, settings, 3, 3)
    incremental = [await rows(connection, table) for table in OUTPUTS]
    await empty_outputs(database)
    await run(pool, settings, 1, 3, full=True)

    assert [row["quantity_on_hand"] for row in after_x] == [7, 10]
    assert [await rows(connection, table) for table in OUTPUTS] == incremental


async def test_a_day_never_holds_one_warehouse_alone(pool: Pool, settings: Settings, database: Database) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(2, -1), on(2, 5, "RECEIPT", warehouse_id="Y")])
    await run(pool, settings, 1, 1)

    steps = await run(pool, settings, 3, 3, warehouse_id="X")

    assert steps["status"] is RunStatus.FAILED
    assert "run all warehouses first" in steps["extract_inventory_data"]["error"]


@pytest.mark.slow
async def test_bad_rows_of_one_warehouse_stay_with_it(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    bad = [on(1, 4, "SALE", warehouse_id=warehouse_id) for warehouse_id in "XY"]
    await ledger.post(database, [*bad, on(1, 3, "RECEIPT", warehouse_id="Z")])
    await run(pool, settings, 1, 1)

    statuses = [(await run(pool, settings, 1, 1, warehouse_id=each))["status"] for each in "XZ"]

    assert statuses == [RunStatus.FAILED, RunStatus.SUCCEEDED]
    assert await connection.fetchval("SELECT count(*) FROM quarantine") == 2
    assert await connection.fetchval("SELECT status FROM partition_quality") == "failed"


@pytest.mark.slow
async def test_an_entry_of_a_transaction_that_ends_late_is_not_lost(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE")])
    slow = await asyncpg.connect(database.superuser_url)
    async with slow.transaction():
        await slow.fetchval("SELECT pg_current_xact_id()")
        await ledger.post(database, [on(2, -1)])
        early = await run(pool, settings, 1, 2)
    await slow.close()

    late = await run(pool, settings, 2, 2)

    assert days(early["transform_and_load"]) == [1, 2]
    assert await connection.fetchval("SELECT quantity_on_hand FROM daily_snapshot WHERE date = '2026-01-02'") == 9
    assert 2 in days(late["transform_and_load"])


async def test_bad_rows_are_quarantined_and_their_day_is_not_published(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(1, 5, "RECEIPT", "B"), on(2, -3), on(2, 4, "SALE")])

    steps = await run(pool, settings, 1, 3)

    assert steps["status"] is RunStatus.FAILED
    assert "1 days failed: 2026-01-02" in steps["data_quality_check"]["error"]
    [bad] = await connection.fetch("SELECT * FROM quarantine")
    assert (bad["row_key"], bad["rule_ids"], bad["payload"]["quantity_change"]) == ("X:A:3", ["sign-wrong"], 4)
    for view in ("snapshots_v1", "daily_metrics_v1"):
        published = await connection.fetch(f"SELECT date, sku FROM {view} ORDER BY date, sku")
        # What A has on the 3rd is calculated without its bad row, and is as wrong as on the 2nd.
        assert [(row["date"].day, row["sku"]) for row in published] == [(1, "A"), (1, "B"), (3, "B")]
    assert await connection.fetchval("SELECT count(DISTINCT date) FROM daily_snapshot") == 3
    events = [json.loads(value) for (value,) in await connection.fetch("SELECT value FROM outbox ORDER BY id")]
    assert [(event["sku"], event["asOf"]) for event in events] == [("B", "2026-01-03")]


async def test_freshness_is_known_per_day(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE")])
    await run(pool, settings, 1, 2)

    partitions = await connection.fetch("SELECT dataset, date, rows FROM dataset_partition ORDER BY 1, 2")

    assert {(row["dataset"], row["date"].day): row["rows"] for row in partitions} == {
        ("ledger_entries", 1): 1,
        ("ledger_entries", 2): 0,
        ("item_days", 1): 1,
        ("item_days", 2): 0,
        ("daily_snapshot", 1): 1,
        ("daily_snapshot", 2): 1,
        ("daily_metric", 1): 1,
        ("daily_metric", 2): 1,
        ("kafka.daily_metric", 2): 1,
    }


async def test_the_latest_metrics_are_published(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(2, -3), on(2, 5, "RECEIPT", "B")])

    await run(pool, settings, 1, 2)

    events = [json.loads(row["value"]) for row in await connection.fetch("SELECT value FROM outbox ORDER BY id")]
    assert [(event["eventType"], event["sku"], event["asOf"]) for event in events] == [
        ("METRICS_CALCULATED", "A", "2026-01-02"),
        ("METRICS_CALCULATED", "B", "2026-01-02"),
    ]
    assert events[0]["daysOfSupply"] == pytest.approx(70)
    assert [(event["abcClass"], event["xyzClass"]) for event in events] == [("C", "Z"), ("C", None)]
    assert len(AnalyticsEvents.validate_json(json.dumps(events))) == 2


@pytest.mark.slow
async def test_metrics_that_nobody_has_heard_of_are_published_by_the_next_run(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(2, -3)])
    await run(pool, settings, 1, 2)
    # As by a process that has died between the load and the announcement.
    await connection.execute("DELETE FROM outbox")
    await connection.execute("DELETE FROM dataset_partition WHERE dataset = 'kafka.daily_metric'")

    published = [
        (await run(pool, settings, 1, 1))["generate_aggregated_metrics"]["figures"]["publishedEvents"] for _ in range(2)
    ]

    assert published == [1, 0]
    [event] = [json.loads(value) for (value,) in await connection.fetch("SELECT value FROM outbox")]
    assert event["asOf"] == "2026-01-02"


async def test_every_step_tells_what_it_read_and_wrote(
    pool: Pool, settings: Settings, database: Database, tmp_path: Path
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(1, 4)])
    told_to = tmp_path / "lineage.jsonl"

    await run(pool, settings.model_copy(update={"openlineage_url": str(told_to)}), 1, 1)

    events = [json.loads(line) for line in told_to.read_text().splitlines()]
    ends = {event["job"]["name"]: event for event in events if event["eventType"] != "START"}
    assert sum(event["eventType"] == "START" for event in events) == len(ends) == 4
    extract, check = ends["inventory_etl.extract_inventory_data"], ends["inventory_etl.data_quality_check"]
    assert [data["name"] for data in extract["inputs"]] == ["inventory.ledger_entries_v1"]
    counts = {data["name"]: data["outputFacets"]["outputStatistics"]["rowCount"] for data in extract["outputs"]}
    assert counts == {"ledger_entries": 1, "pipeline.quarantine": 1}
    transform, metrics = ends["inventory_etl.transform_and_load"], ends["inventory_etl.generate_aggregated_metrics"]
    [days_read] = [data for data in metrics["inputs"] if data["name"] == "item_days"]
    [days_written] = [data for data in transform["outputs"] if data["name"] == "item_days"]
    assert days_read["facets"]["schema"]["fields"] == days_written["facets"]["schema"]["fields"]
    assert {"name": "net_change", "type": "int64"} in days_read["facets"]["schema"]["fields"]
    assert extract["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-01-01T00:00:00+00:00"
    assert (check["eventType"], "1 days failed" in check["run"]["facets"]["errorMessage"]["message"]) == ("FAIL", True)


async def test_a_run_goes_on_when_nobody_listens_to_its_lineage(pool: Pool, settings: Settings) -> None:
    silent = settings.model_copy(update={"openlineage_url": "http://127.0.0.1:9/api/v1/lineage"})

    assert (await run(pool, silent, 1, 1))["status"] is RunStatus.SUCCEEDED


async def run_steps(
    pool: Pool, settings: Settings, job: str, interval: Interval, *steps: str, warehouse_id: str | None = None
) -> RunStatus:
    """Run some steps of a job, all by default."""
    run_id = await start(pool, RunRequest(job, interval, "test", steps=steps or None, warehouse_id=warehouse_id))
    return await Execution(await claim(pool, run_id), pool, settings).run()


async def published_days(connection: Connection, view: str = "snapshots_v1") -> list[int]:
    return [row["date"].day for row in await connection.fetch(f"SELECT DISTINCT date FROM {view} ORDER BY date")]


JANUARY_2 = Interval(datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC))


@pytest.mark.slow
async def test_bad_rows_that_another_job_has_extracted_fail_their_day_all_the_same(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(2, -3)])
    await run(pool, settings, 1, 2)
    await ledger.post(database, [on(2, 4, "SALE"), on(3, -1)])

    await run_steps(pool, settings, "transaction_aggregation", JANUARY_2)
    at_once = await published_days(connection, "movement_aggregates_v1"), await published_days(connection)
    # Late for its interval, as the hourly job is ahead; then its next try, the day after, and a run of the bad date.
    found, again = [await run(pool, settings, 3, 3) for _ in range(2)]
    later = await run(pool, settings, 4, 4)
    own = await run(pool, settings, 2, 2)

    assert 2 not in {*at_once[0], *at_once[1]}
    assert [each["status"] for each in (found, again, later, own)] == [
        RunStatus.FAILED,
        RunStatus.FAILED,
        RunStatus.SUCCEEDED,
        RunStatus.FAILED,
    ]
    assert "1 days failed: 2026-01-02" in found["data_quality_check"]["error"]
    assert later["data_quality_check"]["figures"]["stillFailed"] == ["2026-01-02"]
    assert await published_days(connection) == [1]


@pytest.mark.parametrize("warehouse_id", [None, pytest.param("X", marks=pytest.mark.slow)])
async def test_what_follows_from_bad_rows_is_calculated_again_once_they_are_mended(
    pool: Pool, settings: Settings, connection: Connection, database: Database, warehouse_id: str | None
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(2, 4, "SALE"), on(2, -3), on(3, -1)])
    await run(pool, settings, 1, 4)
    await run_steps(pool, settings, "transaction_aggregation", JANUARY_2)

    assert await connection.fetchval("SELECT count(*) FROM outbox") == 0  # there is nothing that may be told

    await ledger.correct(database, 4, "RETURN")
    await run(pool, settings, 2, 2, warehouse_id=warehouse_id)
    [event] = [json.loads(value) for (value,) in await connection.fetch("SELECT value FROM outbox")]
    assert (event["sku"], event["asOf"]) == ("A", "2026-01-04")
    checked = await run(pool, settings, 4, 4)
    hour = Interval(datetime(2026, 1, 4, 10, 5, tzinfo=UTC), datetime(2026, 1, 4, 11, 5, tzinfo=UTC))
    await run_steps(pool, settings, "transaction_aggregation", hour)

    tables = (*OUTPUTS, "movement_aggregate")
    mended = {table: await rows(connection, table) for table in tables}
    assert checked["status"] is RunStatus.SUCCEEDED
    assert await published_days(connection) == [1, 2, 3, 4]
    assert [row[3] for row in mended["daily_snapshot"]] == [10, 11, 10, 10]
    await empty_outputs(database)
    await run(pool, settings, 1, 4)
    await run_steps(pool, settings, "transaction_aggregation", JANUARY_2)
    assert {table: await rows(connection, table) for table in tables} == mended


async def test_a_lake_that_is_ahead_of_the_run_passes_and_a_day_that_failed_clears(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(2, -3)])
    await run_steps(pool, settings, "inventory_etl", JANUARY_2, "extract_inventory_data")
    await ledger.post(database, [on(2, -1)])
    await run_steps(pool, settings, "transaction_aggregation", JANUARY_2)
    await ledger.post(database, [on(2, -1)])
    url = settings.database_url.get_secret_value()
    table = PartitionedTable(settings.lake_url, "ledger_entries", contract.LEDGER_ENTRIES.schema)
    # As by an extraction that has died before it told of it.
    dying = await claim(pool, await start(pool, RunRequest("transaction_aggregation", JANUARY_2, "test")))
    own = Fence(url, dying.run_id, dying.attempt)
    await asyncio.to_thread(extraction.extract_ledger, url, table, 0, [], own, lambda done, total: None)
    await connection.execute("INSERT INTO partition_quality VALUES ('2026-01-01', 'failed', '[]', gen_random_uuid())")

    assert await run_steps(pool, settings, "inventory_etl", JANUARY_2, "data_quality_check") is RunStatus.SUCCEEDED
    checks = await connection.fetch("SELECT date, status FROM partition_quality ORDER BY date")
    assert [(row["date"].day, row["status"]) for row in checks] == [(1, "passed"), (2, "passed")]


@pytest.mark.slow
async def test_a_day_whose_warehouses_were_extracted_one_by_one_does_not_fail(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    each = [on(2, 9, "RECEIPT", warehouse_id=warehouse_id) for warehouse_id in "XYZ"]
    await ledger.post(database, each)
    await run_steps(pool, settings, "inventory_etl", JANUARY_2, "extract_inventory_data")
    for warehouse_id in "XY":
        await ledger.post(database, each)
        await run_steps(pool, settings, "inventory_etl", JANUARY_2, "extract_inventory_data", warehouse_id=warehouse_id)

    async def check(warehouse_id: str | None = None) -> tuple[RunStatus, str | None]:
        steps = "inventory_etl", JANUARY_2, "data_quality_check"
        status = await run_steps(pool, settings, *steps, warehouse_id=warehouse_id)
        return status, await connection.fetchval("SELECT status FROM partition_quality WHERE date = '2026-01-02'")

    assert await check("X") == await check("Y") == await check() == (RunStatus.SUCCEEDED, None)
    await run_steps(pool, settings, "inventory_etl", JANUARY_2, "extract_inventory_data")
    assert await check() == (RunStatus.SUCCEEDED, "passed")


@pytest.mark.slow
async def test_a_lake_that_differs_from_the_ledger_fails_its_day_until_it_is_mended(
    pool: Pool, settings: Settings, connection: Connection, database: Database
) -> None:
    await ledger.post(database, [on(1, 10, "OPENING_BALANCE"), on(2, -3)])
    await run(pool, settings, 1, 4)
    await run(pool, settings, 2, 2)
    damage_lake(settings, "ledger_entries", on_days=[2])

    checked = await run_steps(pool, settings, "inventory_etl", JANUARY_2, "data_quality_check")
    published = [await published_days(connection, view) for view in ("snapshots_v1", "daily_metrics_v1")]
    mended = await run(pool, settings, 2, 2)

    assert (checked, mended["status"]) == (RunStatus.FAILED, RunStatus.SUCCEEDED)
    # Nobody knows which rows are missing, so nothing from then on is published.
    assert published == [[1], [1]]
    assert await connection.fetchval("SELECT bool_and(status = 'passed') FROM partition_quality")
    assert await published_days(connection) == [1, 2, 3, 4]
