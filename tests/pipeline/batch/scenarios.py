"""What each batch job finds, what happens before it runs again, and what readers see of its work."""

import asyncio
import json
import re
import shutil
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import pyarrow as pa
from deltalake import DeltaTable

from libs.chassis.database import Connection, Pool
from libs.events.topics import INVENTORY_EVENTS
from services.pipeline.event_table import Row
from services.pipeline.jobs.contract import IN_LAKE, ITEM_DAYS
from services.pipeline.jobs.execution import Execution
from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.run import RunRequest, RunStatus
from services.pipeline.lake import Advance, LakeTable, PartitionedTable
from services.pipeline.partition_queries import Fact
from services.pipeline.settings import Settings
from tests.factories import NOON, an_inventory_update
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.pipeline.batch.stock import remove_stock, set_stock
from tests.pipeline.batch.test_inventory_etl import OUTPUTS, empty_outputs
from tests.pipeline.batch.test_runs import claim, executed, start
from tests.pipeline.conftest import empty_tables
from tests.pipeline.test_stream import apply
from tests.stack import Database

INTERVAL: Final = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 7, tzinfo=UTC))
THE_WEEK: Final = Interval(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 12, tzinfo=UTC))
THE_WEEK_BEFORE: Final = Interval(datetime(2025, 12, 29, tzinfo=UTC), datetime(2026, 1, 5, tzinfo=UTC))
CIRCLE: Final = {
    "mail_recipients": ["ops@example.org"],
    "mail_warehouse_recipients": {"LYON-1": ["ada@example.org", "bob@example.org"]},
}

State = dict[Hashable, Any]
"""What readers see of each partition that a job replaces as a whole."""


@dataclass(frozen=True, slots=True)
class World:
    """The servers that a job works on."""

    pool: Pool
    connection: Connection
    database: Database
    settings: Settings


@dataclass(frozen=True, slots=True)
class Scenario:
    """A job that has something to do: `old` begins with nothing, and `change` makes what there is for the job to do."""

    job: str
    old: Callable[[World], Awaitable[None]]
    change: Callable[[World], Awaitable[None]]
    seen: Callable[[World], Awaitable[State]]
    interval: Interval = INTERVAL
    settings: Mapping[str, Any] = field(default_factory=dict)

    def world(self, pool: Pool, connection: Connection, database: Database, settings: Settings) -> World:
        """The servers, with the settings that the job is run with."""
        return World(pool, connection, database, settings.model_copy(update=dict(self.settings)))

    @property
    def variables(self) -> dict[str, str]:
        """The settings as environment variables."""
        return {
            name.upper(): value if isinstance(value, str) else json.dumps(value)
            for name, value in self.settings.items()
        }


async def run(pool: Pool, settings: Settings, job: str, interval: Interval = INTERVAL) -> UUID:
    """Run a job here; it must succeed."""
    run_id = await start(pool, RunRequest(job, interval, "test"))
    assert await Execution(await claim(pool, run_id), pool, settings).run() is RunStatus.SUCCEEDED
    return run_id


async def empty(world: World) -> None:
    """Nothing is there."""
    await empty_tables(world.database)
    await ledger.empty(world.database)
    await remove_stock(world.database)
    await empty_outputs(world.database)
    shutil.rmtree(world.settings.lake_url, ignore_errors=True)


async def _nothing(_world: World) -> None:
    """Nothing happens in between."""


def _ledger_job(job: str) -> Scenario:
    """A job of the ledger, of which late entries come."""

    async def old(world: World) -> None:
        await empty(world)
        await ledger.post(world.database, [on(1, 50, "OPENING_BALANCE"), *(on(day, -day) for day in (2, 3, 5))])
        await run(world.pool, world.settings, job)

    async def change(world: World) -> None:
        await ledger.post(world.database, [on(2, -7), on(6, -1), on(3, 4, "RECEIPT", "B")])

    return Scenario(job, old, change, _dates)


async def _dates(world: World) -> State:
    """(store and dataset, date) -> its rows."""
    visible: State = {}
    for table in (*OUTPUTS, "movement_aggregate"):
        for row in await world.connection.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4, 5"):
            visible.setdefault((table, row["date"]), []).append(tuple(row))
    for row in await world.connection.fetch("SELECT date, status, failures FROM partition_quality"):
        visible["quality", row["date"]] = (row["status"], row["failures"])
    return visible | await asyncio.to_thread(_lake_dates, world.settings.lake_url)


def _lake_dates(lake_url: str) -> State:
    visible: State = {}
    for contract in IN_LAKE:
        for row in _stored(f"{lake_url}/batch/{contract.dataset}", but="transaction_id"):
            visible.setdefault((f"lake {contract.dataset}", row["date"]), []).append(row)
    return visible


def _stored(url: str, *, but: str) -> list[dict[str, Any]]:
    """The rows of a table of the lake in some order that is always the same; without instants."""
    if not DeltaTable.is_deltatable(url):
        return []
    rows = DeltaTable(url).to_pyarrow_table()
    unstable = [name for name in rows.column_names if name == but or pa.types.is_timestamp(rows[name].type)]
    return sorted(rows.drop_columns(unstable).to_pylist(), key=str)


async def _alerts_before(world: World) -> None:
    """Two alerts that all were told of."""
    await empty(world)
    await set_stock(world.database, "LAPTOP", 18, sold_per_day=2)
    await set_stock(world.database, "MOUSE", 5, warehouse_id="LYON-1", reorder_point=5)
    await run(world.pool, world.settings, "low_stock_alerts")


async def _stock_changes(world: World) -> None:
    """One item gets worse, one recovers, one is short for the first time."""
    await set_stock(world.database, "LAPTOP", 1, sold_per_day=2)
    await set_stock(world.database, "MOUSE", 500, warehouse_id="LYON-1", reorder_point=5)
    await set_stock(world.database, "DESK", 0, reorder_point=3)


async def _alerts(world: World) -> State:
    alerts = await world.connection.fetch(
        "SELECT sku, status, severity, quantity_available, revision FROM alerts_v1 ORDER BY opened_at, sku"
    )
    values = [json.loads(row["value"]) for row in await world.connection.fetch("SELECT value FROM outbox ORDER BY id")]
    return {
        "alerts": [tuple(row) for row in alerts],
        "events": [(event["sku"], event["severity"], event["revision"]) for event in values],
        "mails": await _mails(world),
    }


async def _mails(world: World) -> list[tuple[Any, ...]]:
    rows = await world.connection.fetch("""
        SELECT subject, array_agg(recipient ORDER BY recipient) AS recipients
          FROM mail JOIN mail_delivery USING (message_id) GROUP BY message_id ORDER BY 1, 2
    """)
    return [tuple(row) for row in rows]


async def _weeks_before(world: World) -> None:
    """A week that was told of."""
    await empty(world)
    await set_stock(world.database, "LAPTOP", 0, unit_cost="2.5")
    await world.pool.execute(
        "INSERT INTO stock_position (sku, warehouse_id, quantity_on_hand) VALUES ('LAPTOP', 'BERLIN-1', 4)"
    )
    await _move(world, date(2025, 12, 30), "RECEIPT", 10, 0)
    await _move(world, date(2026, 1, 6), "SALE", 0, 4)
    await run(world.pool, world.settings, "weekly_summary", THE_WEEK_BEFORE)


async def _both_weeks_before(world: World) -> None:
    """Two weeks that were told of."""
    await _weeks_before(world)
    await run(world.pool, world.settings, "weekly_summary", THE_WEEK)


async def _late_movements(world: World) -> None:
    """More was sold in both weeks than was known."""
    await _move(world, date(2025, 12, 31), "SALE", 0, 3)
    await _move(world, date(2026, 1, 8), "SALE", 0, 2)


async def _move(world: World, day: date, kind: str, units_in: int, units_out: int) -> None:
    await world.pool.execute(
        """
        INSERT INTO daily_movement (sku, warehouse_id, date, transaction_type, entries, units_in, units_out, value,
                                    last_event_at)
        VALUES ('LAPTOP', 'BERLIN-1', $1, $2, 1, $3, $4, 0, now())
        """,
        day,
        kind,
        units_in,
        units_out,
    )


async def _weeks(world: World) -> State:
    visible: State = {"mails": await _mails(world)}
    for row in await world.connection.fetch("SELECT * FROM weekly_stock_item ORDER BY week, sku"):
        visible.setdefault(("stock items", row["week"]), []).append(tuple(row))
    for row in await world.connection.fetch("SELECT * FROM report WHERE published_at IS NOT NULL"):
        visible["report", row["week"]] = row["content"], re.sub("Generated .* UTC", "", row["html"])
    return visible


async def _untidy_lake(world: World) -> None:
    """Two days in several files, one of them with an event twice, and a dataset with files that nobody needs."""
    await empty(world)
    await asyncio.to_thread(_fill_lake, world.settings.lake_url)


def _fill_lake(lake_url: str) -> None:
    table, writer = LakeTable(lake_url, INVENTORY_EVENTS), "archive:inventory-events:0"
    days = (NOON, NOON.replace(day=NOON.day - 1))
    events = [an_inventory_update(sku=str(day.day), sequence=n, timestamp=day) for n in (1, 2, 1) for day in days]
    for offset, event in enumerate(events):
        advance = Advance(table.versions([writer])[writer], offset + 1)
        table.append(table.event_table.rows([Row(INVENTORY_EVENTS.name, 0, offset, event)]), {writer: advance})
    dataset = PartitionedTable(lake_url, ITEM_DAYS.dataset, ITEM_DAYS.schema)
    columns = {name: ["A"] if name in ("sku", "warehouse_id") else [1] for name in ITEM_DAYS.schema.names}
    for watermark in (1, 2):
        dataset.replace([1], pa.table(columns, ITEM_DAYS.schema).to_reader(), watermark)
    for commit in Path(dataset.url).glob("_delta_log/*.json"):
        commit.write_text(re.sub(r'"deletionTimestamp":\d+', '"deletionTimestamp":1', commit.read_text()))


async def _lake(world: World) -> State:
    return await asyncio.to_thread(_lake_days, world.settings.lake_url)


def _lake_days(lake_url: str) -> State:
    visible = _lake_dates(lake_url)
    for row in _stored(f"{lake_url}/{INVENTORY_EVENTS.name}", but=""):
        visible.setdefault(("events", row["date"]), []).append(row)
    return visible


async def _old_facts(world: World) -> None:
    """Facts of months without a partition, and alerts, mails and runs that are kept no longer."""
    await empty(world)
    await _drop_partitions(world.database, 1981)
    days = [datetime(1981, month, 1, 12, tzinfo=UTC) for month in range(1, 9)]
    await apply(world.connection, *(an_inventory_update(sequence=n, timestamp=day) for n, day in enumerate(days, 1)))
    await world.connection.execute("""
        INSERT INTO mail (message_id, sender, subject, content, created_at)
        SELECT name, 'a@b', name, '', now() - interval '8 days' FROM unnest(ARRAY['sent', 'waits']) AS name;
        INSERT INTO mail_delivery (message_id, recipient, sent_at)
        SELECT message_id, 'c@d', CASE message_id WHEN 'sent' THEN now() - interval '8 days' END FROM mail;
        INSERT INTO alert (alert_id, sku, warehouse_id, status, severity, quantity_available, velocity_per_day,
                           stockout_risk, suggested_action, revision, opened_at, updated_at, resolved_at)
        SELECT gen_random_uuid(), sku, 'X', 'resolved', 'warning', 1, 1, 0.5, 'Order', 1, now(), now(), now() - age
          FROM (VALUES ('OLD', interval '8 days'), ('NEW', '1 day')) AS resolved(sku, age)
    """)
    for _ in range(2):
        await executed(world.pool, world.settings, await start(world.pool, RunRequest("inventory_etl", INTERVAL, "x")))
    await world.connection.execute("UPDATE run SET finished_at = finished_at - interval '8 days'")


async def _drop_partitions(database: Database, year: int) -> None:
    connection = await asyncpg.connect(database.superuser_url)
    try:
        for fact in Fact:
            names = ", ".join(f"pipeline.{fact}_{year}_{month:02}" for month in range(1, 13))
            await connection.execute(f"DROP TABLE IF EXISTS {names}")
    finally:
        await connection.close()


async def _kept(world: World) -> State:
    fetch = world.connection.fetch
    visible: State = {
        "alerts": [row["sku"] for row in await fetch("SELECT sku FROM alert ORDER BY 1")],
        "mails": await _mails(world),
        "runs": await world.connection.fetchval(
            "SELECT ROW((SELECT count(*) FROM run WHERE requested_by = 'x'),"
            "           (SELECT count(*) FROM run_log JOIN run USING (run_id) WHERE requested_by = 'x'))"
        ),
    }
    for fact, month in ((Fact.DAILY, "date"), (Fact.HOURLY, "bucket_start AT TIME ZONE 'UTC'")):
        for row in await fetch(f"SELECT to_char({month}, 'YYYY-MM') AS month, units_out FROM {fact} ORDER BY 1"):
            visible.setdefault((fact, row["month"]), []).append(row["units_out"])
    return visible


SCENARIOS: Final = {
    "inventory_etl": _ledger_job("inventory_etl"),
    "transaction_aggregation": _ledger_job("transaction_aggregation"),
    "low_stock_alerts": Scenario("low_stock_alerts", _alerts_before, _stock_changes, _alerts, settings=CIRCLE),
    "weekly_summary": Scenario("weekly_summary", _weeks_before, _late_movements, _weeks, THE_WEEK, CIRCLE),
    "weekly_summary again": Scenario("weekly_summary", _both_weeks_before, _late_movements, _weeks, THE_WEEK, CIRCLE),
    "lake_maintenance": Scenario("lake_maintenance", _untidy_lake, _nothing, _lake),
    "partition_maintenance": Scenario(
        "partition_maintenance",
        _old_facts,
        _nothing,
        _kept,
        settings={
            "metrics_clock": "event",
            "fact_partition_rows": 1,
            "hourly_facts_months": 1,
            "daily_facts_months": 4,
            "alert_retention_days": 7,
            "run_retention_days": 7,
        },
    ),
}
