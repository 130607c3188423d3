"""Monthly partitions of the facts: made ahead, grown out of the default partition, dropped by age; the sums stay."""

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from libs.chassis.database import Connection, Pool
from libs.events.inventory import InventoryUpdate
from services.pipeline import partition_queries, reconciliation_queries, stream
from services.pipeline.jobs import partition_maintenance, run_queries
from services.pipeline.jobs.execution import Execution
from services.pipeline.jobs.job import Interval, find
from services.pipeline.jobs.run import RunRequest, RunStatus
from services.pipeline.jobs.step import StepFunction
from services.pipeline.partition_queries import Fact
from services.pipeline.settings import Settings
from tests.factories import an_inventory_update
from tests.pipeline.batch.test_inventory_etl import empty_outputs
from tests.pipeline.batch.test_runs import THE_DAY, claim, executed, fails, run_row, start
from tests.pipeline.test_stream import apply, expected_facts, stored_facts
from tests.stack import Database


@pytest.fixture
def maintaining(settings: Settings) -> Settings:
    """A single fact is worth a partition."""
    return settings.model_copy(update={"fact_partition_rows": 1})


async def maintain(pool: Pool, settings: Settings) -> None:
    run_id = await start(pool, RunRequest("partition_maintenance", THE_DAY, "test"))
    status = await Execution(await claim(pool, run_id), pool, settings).run()
    assert status is RunStatus.SUCCEEDED


async def partitions(pool: Pool, fact: Fact) -> dict[str, int]:
    """The partitions of a fact table, and how many rows each holds."""
    names = await pool.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::text::regclass ORDER BY 1", fact
    )
    rows = await pool.fetch(f"SELECT tableoid::regclass::text AS name, count(*) AS rows FROM {fact} GROUP BY 1")
    return dict.fromkeys((row["name"] for row in names), 0) | {row["name"]: row["rows"] for row in rows}


def entries(*days: date, first_sequence: int = 1) -> list[InventoryUpdate]:
    return [
        an_inventory_update(sequence=sequence, timestamp=datetime(day.year, day.month, day.day, 23, 30, tzinfo=UTC))
        for sequence, day in enumerate(days, first_sequence)
    ]


async def assert_facts(connection: Connection, arrived: list[InventoryUpdate]) -> None:
    assert await stored_facts(connection, "daily_movement", "date") == expected_facts(arrived, "day")
    assert await stored_facts(connection, "hourly_movement", "bucket_start") == expected_facts(arrived, "hour")


async def test_the_months_to_come_have_partitions_before_they_begin(pool: Pool, maintaining: Settings) -> None:
    await maintain(pool, maintaining)

    first = datetime.now(UTC).date().replace(day=1)
    for fact in Fact:
        present = await partitions(pool, fact)
        for month in await partition_queries.months_from(pool, first, partition_maintenance.MONTHS_AHEAD):  # type: ignore[arg-type]
            assert f"{fact}_{month:%Y_%m}" in present


async def test_no_event_fails_for_want_of_a_partition_and_months_move_out_of_the_default_one(
    pool: Pool, connection: Connection, maintaining: Settings
) -> None:
    arrived = entries(date(2010, 1, 31), date(2010, 2, 1), date(2010, 2, 28), date(1999, 12, 31))
    await apply(connection, *arrived)
    default = (await partitions(pool, Fact.DAILY))["daily_movement_default"]

    await maintain(pool, maintaining.model_copy(update={"fact_partition_rows": 2}))
    late = entries(date(2010, 2, 1), date(2010, 3, 1), first_sequence=5)
    await apply(connection, *late)

    assert default == 4
    for fact in Fact:
        present = await partitions(pool, fact)
        assert (present[f"{fact}_2010_02"], present[f"{fact}_default"]) == (2, 3)
    await assert_facts(connection, arrived + late)


async def test_maintenance_that_is_repeated_changes_nothing(
    pool: Pool, connection: Connection, maintaining: Settings
) -> None:
    await apply(connection, *entries(date(2012, 1, 1)))
    await maintain(pool, maintaining)
    before = await partitions(pool, Fact.HOURLY)

    await maintain(pool, maintaining)

    assert await partitions(pool, Fact.HOURLY) == before


async def test_the_stream_goes_on_while_months_move(pool: Pool, connection: Connection, maintaining: Settings) -> None:
    days = [date(2013, 1, 1) + timedelta(days=7 * week) for week in range(52)]
    arrived = [entry for round_ in range(4) for entry in entries(*days, first_sequence=52 * round_ + 1)]

    async def write() -> None:
        await apply(connection, *arrived, flush=4)

    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write())
        while not writing.done():
            await maintain(pool, maintaining)

    await maintain(pool, maintaining)
    assert (await partitions(pool, Fact.DAILY))["daily_movement_default"] == 0
    await assert_facts(connection, arrived)


@pytest.mark.parametrize("fact", Fact)
async def test_who_reads_while_a_month_gets_its_partition_sees_its_rows(
    pool: Pool, connection: Connection, fact: Fact
) -> None:
    await apply(connection, *entries(date(2011, 3, 1), date(2011, 3, 2)))
    async with pool.acquire() as mover:
        async with mover.transaction():
            moved = await mover.fetchval("SELECT create_fact_partition($1, '2011-03-01')", fact)
            reading = asyncio.create_task(connection.fetchval(f"SELECT count(*) FROM {fact}"))
            while not await mover.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0)"
            ):
                await asyncio.sleep(0.01)

        assert moved == await reading == 2


async def test_months_beyond_the_retention_are_dropped_and_not_missed(
    pool: Pool, connection: Connection, maintaining: Settings
) -> None:
    days = [date(2014, month, 1) for month in range(1, 9)]
    await apply(connection, *entries(*days))
    keeping = maintaining.model_copy(update={"hourly_facts_months": 1, "daily_facts_months": 4})

    await maintain(pool, keeping)

    assert await dates(pool, "daily_movement", "date") == days[3:]
    assert await dates(pool, "hourly_movement", "(bucket_start AT TIME ZONE 'UTC')::date") == days[6:]
    assert "hourly_movement_2014_06" not in await partitions(pool, Fact.HOURLY)
    facts = await reconciliation_queries.facts(connection, stream.GROUP)
    assert facts.kept_from == date(2014, 4, 1)


async def test_late_events_of_dropped_months_are_dropped_again(
    pool: Pool, connection: Connection, maintaining: Settings
) -> None:
    keeping = maintaining.model_copy(update={"fact_partition_rows": 10, "daily_facts_months": 4})
    await apply(connection, *entries(date(2015, 1, 31), date(2015, 2, 1), date(2015, 6, 1)))

    await maintain(pool, keeping)

    assert await dates(pool, "daily_movement", "date") == [date(2015, 2, 1), date(2015, 6, 1)]


async def test_an_entry_of_a_dropped_month_moves_the_stock_but_begins_no_fact_again(
    pool: Pool, connection: Connection, maintaining: Settings
) -> None:
    keeping = maintaining.model_copy(update={"hourly_facts_months": 1, "daily_facts_months": 4})
    await apply(connection, *entries(date(2016, 1, 1), date(2016, 4, 1), date(2016, 8, 1)))
    await maintain(pool, keeping)

    late = entries(date(2016, 1, 1), date(2016, 5, 1), date(2016, 7, 1), first_sequence=4)
    before = beyond_retention()
    await apply(connection, *late)

    assert beyond_retention() - before == {"hourly_movement": 2, "daily_movement": 1}
    assert await dates(pool, "hourly_movement", "(bucket_start AT TIME ZONE 'UTC')::date") == [
        date(2016, 7, 1),
        date(2016, 8, 1),
    ]
    assert await dates(pool, "daily_movement", "date") == [
        date(2016, 4, 1),
        date(2016, 5, 1),
        date(2016, 7, 1),
        date(2016, 8, 1),
    ]
    assert await pool.fetchval("SELECT last_sequence FROM stock_position") == 6


async def test_the_service_may_neither_create_tables_nor_make_the_functions_touch_others(
    connection: Connection,
) -> None:
    with pytest.raises(Exception, match="permission denied"):
        await connection.execute("CREATE TABLE daily_movement_2016_01 (LIKE daily_movement)")
    with pytest.raises(Exception, match="is no fact table"):
        await connection.execute("SELECT create_fact_partition('outbox', '2016-01-01')")
    with pytest.raises(Exception, match="is no fact table"):
        await connection.execute("SELECT drop_facts_before('outbox', '2016-01-01')")


def beyond_retention() -> Counter[str]:
    name = "stockflow_stream_beyond_retention_total"
    return Counter({fact: int(REGISTRY.get_sample_value(name, {"fact": fact}) or 0) for fact in Fact})


async def dates(pool: Pool, table: str, expression: str) -> list[Any]:
    rows = await pool.fetch(f"SELECT DISTINCT {expression} AS date FROM {table} ORDER BY 1")
    return [row["date"] for row in rows]


async def test_alerts_and_mails_go_once_nobody_waits_for_them(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    await connection.execute("""
        INSERT INTO mail (message_id, sender, subject, content, created_at)
        SELECT name, 'a@b', name, '', now() - age
          FROM (VALUES ('sent', interval '8 days'), ('late', '8 days'), ('waits', '8 days'), ('given up', '8 days'),
                       ('thread', '8 days'), ('new', '1 day')) AS old(name, age);
        INSERT INTO mail_delivery (message_id, recipient, sent_at, given_up_at)
        SELECT message_id, 'c@d', CASE message_id WHEN 'sent' THEN now() - interval '8 days'
                                                  WHEN 'thread' THEN now() - interval '8 days'
                                                  WHEN 'late' THEN now() - interval '2 days' END,
               CASE message_id WHEN 'given up' THEN now() - interval '8 days' END
          FROM mail;
        INSERT INTO alert (alert_id, sku, warehouse_id, status, severity, quantity_available, velocity_per_day,
                           stockout_risk, suggested_action, revision, opened_at, updated_at, resolved_at, notice,
                           thread_id)
        SELECT gen_random_uuid(), sku, 'X', status, 'warning', 1, 1, 0.5, 'Order', 1, now() - interval '9 days', now(),
               CASE status WHEN 'resolved' THEN now() - resolved END, notice, thread
          FROM (VALUES ('OLD', 'resolved', interval '8 days', NULL, 'sent'),
                       ('UNTOLD', 'resolved', '8 days', 'recovered', NULL),
                       ('NEW', 'resolved', '1 day', NULL, NULL),
                       ('LIVE', 'open', NULL, NULL, 'thread')) AS old(sku, status, resolved, notice, thread)
    """)

    await maintain(pool, settings.model_copy(update={"alert_retention_days": 7}))

    mails = await connection.fetch("SELECT message_id FROM mail ORDER BY 1")
    assert [row["message_id"] for row in mails] == ["late", "new", "thread", "waits"]
    alerts = await connection.fetch("SELECT sku FROM alert ORDER BY 1")
    assert [row["sku"] for row in alerts] == ["LIVE", "NEW"]
    deleted = await connection.fetchval("SELECT figures FROM run_step WHERE step = 'delete_old_alerts'")
    assert deleted == {"alerts": 2, "mails": 2}


async def test_runs_go_once_later_ones_stand_in_for_them(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    async def run(
        key: str, *, interval: Interval = THE_DAY, warehouse_id: str | None = None, **steps: StepFunction
    ) -> UUID:
        run_id = await start(pool, RunRequest("inventory_etl", interval, "test", warehouse_id=warehouse_id), key)
        await executed(pool, settings, run_id, **steps)
        return run_id

    replaced = await run("first")
    succeeded = await run("again")
    failed = await run("third", extract_inventory_data=fails)
    alone = await run("week", interval=Interval(THE_DAY.start - timedelta(days=7), THE_DAY.end))
    of_a_warehouse = await run("warehouse", warehouse_id="X")
    await connection.execute("UPDATE run SET finished_at = finished_at - interval '8 days'")
    recent = await run("fourth", extract_inventory_data=fails)

    await maintain(pool, settings.model_copy(update={"run_retention_days": 7}))

    runs = [row["run_id"] for row in await connection.fetch("SELECT run_id FROM run WHERE job = 'inventory_etl'")]
    assert {replaced, failed}.isdisjoint(runs)
    assert {*runs} == {succeeded, alone, of_a_warehouse, recent}
    logged = await connection.fetch("SELECT DISTINCT run_id FROM run_log WHERE run_id = ANY($1)", runs)
    assert [row["run_id"] for row in logged] == [recent]
    known = await run_queries.history(connection, find("inventory_etl"), THE_DAY.start, THE_DAY.end, None)
    assert known[THE_DAY].is_done
    assert await start(pool, RunRequest("inventory_etl", THE_DAY, "test"), "first") not in runs


async def test_a_failure_is_not_forgotten_for_a_later_run_of_another_step(
    pool: Pool, settings: Settings, connection: Connection
) -> None:
    def of(*steps: str) -> RunRequest:
        return RunRequest("inventory_etl", THE_DAY, "airflow", steps=steps)

    await executed(pool, settings, await start(pool, of("extract_inventory_data")))
    failed = await start(pool, of("transform_and_load"))
    await executed(pool, settings, failed, transform_and_load=fails)
    await executed(pool, settings, await start(pool, of("data_quality_check")))
    await connection.execute("UPDATE run SET finished_at = finished_at - interval '8 days'")

    await maintain(pool, settings.model_copy(update={"run_retention_days": 7}))

    assert (await run_row(connection, failed))["status"] == "failed"
    known = await run_queries.history(connection, find("inventory_etl"), THE_DAY.start, THE_DAY.end, None)
    assert known[THE_DAY].has_failed


@pytest.mark.parametrize(
    "named",
    [
        "dataset_partition (dataset, date, watermark, rows, run_id) VALUES ('d', '2026-01-05', 1, 1, '{}')",
        "partition_quality (date, status, run_id) VALUES ('2026-01-05', 'failed', '{}')",
        "quarantine (dataset, date, row_key, rule_ids, payload, run_id) VALUES ('d', now(), 'k', '{{}}', '{{}}', '{}')",
    ],
)
async def test_the_run_that_a_date_names_is_kept(
    pool: Pool, settings: Settings, connection: Connection, database: Database, named: str
) -> None:
    first = await a_run(pool, settings)
    await a_run(pool, settings)
    await connection.execute(f"INSERT INTO {named.format(first)}")
    await connection.execute("UPDATE run SET finished_at = finished_at - interval '8 days'")

    await maintain(pool, settings.model_copy(update={"run_retention_days": 7}))
    await empty_outputs(database)

    assert (await run_row(connection, first))["status"] == "succeeded"


async def a_run(pool: Pool, settings: Settings) -> UUID:
    """A run that has succeeded."""
    run_id = await start(pool, RunRequest("inventory_etl", THE_DAY, "test"))
    await executed(pool, settings, run_id)
    return run_id
