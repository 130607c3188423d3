"""A real year of sales: the batch answers what independent programs do, and what the stream does, to the last bit."""

import json
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import polars as pl
import pytest

from libs.chassis.database import Connection, Pool
from libs.events.inventory import TransactionType
from services.pipeline import metric_queries
from services.pipeline.jobs.execution import Execution
from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.run import RunRequest, RunStatus
from services.pipeline.settings import Settings
from tests.end_to_end.week import DATA
from tests.factories import an_inventory_update
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import Move
from tests.pipeline.batch.test_inventory_etl import empty_outputs
from tests.pipeline.batch.test_runs import claim, start
from tests.pipeline.test_stream import apply
from tests.stack import Database

FILE = DATA / "online_retail_2010_2011.parquet"
AS_OF = date(2011, 12, 9)
OPENING = datetime(2010, 11, 30, tzinfo=UTC)
THE_YEAR = Interval(datetime(2011, 12, 3, tzinfo=UTC), datetime(2011, 12, 10, tzinfo=UTC))
"""All of the ledger is read and summed; snapshots and metrics are those of the last week."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not FILE.exists(), reason=f"{FILE.name} is not there: set STOCKFLOW_DATA"),
]


def year() -> list[Move]:
    """The file as ledger entries, after opening balances that no sale exceeds."""
    sales = pl.read_parquet(FILE).sort("InvoiceDate", "row_no")
    moves = [
        Move(
            at.replace(tzinfo=UTC),
            -quantity,
            "SALE" if quantity > 0 else "RETURN",
            sku,
            country,
            Decimal(str(price)),
            invoice,
        )
        for at, quantity, sku, country, price, invoice in sales.select(
            "InvoiceDate", "Quantity", "StockCode", "Country", "UnitPrice", "InvoiceNo"
        ).iter_rows()
    ]
    out: dict[tuple[str, str], int] = defaultdict(int)
    for move in moves:
        out[move.sku, move.warehouse_id] += max(-move.units, 0)
    opening = [Move(OPENING, units, "OPENING_BALANCE", *item) for item, units in sorted(out.items()) if units]
    return opening + moves


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What a correct system must answer, computed by other programs."""
    read: dict[str, Any] = json.loads((DATA / "reference_answers.json").read_text())
    return read


async def test_the_batch_equals_the_reference_and_the_stream(
    pool: Pool, settings: Settings, connection: Connection, database: Database, answers: dict[str, Any]
) -> None:
    moves = year()
    await ledger.empty(database)
    await empty_outputs(database)
    await ledger.post(database, moves)
    for job in ("inventory_etl", "transaction_aggregation"):
        run_id = await start(pool, RunRequest(job, THE_YEAR, "test"))
        assert await Execution(await claim(pool, run_id), pool, settings).run() is RunStatus.SUCCEEDED

    owner = await asyncpg.connect(database.superuser_url)
    try:
        await check_days_and_months(owner, answers)
        await check_top_skus(owner, answers)
        await check_warehouses(owner, answers)
        await check_snapshot(owner, moves)
    finally:
        await owner.close()
    await check_stream(connection, moves)


async def check_days_and_months(connection: Any, answers: dict[str, Any]) -> None:
    rows = await connection.fetch(
        """
        SELECT date, sum(movements)::bigint AS movements, sum(demand)::bigint AS demand
          FROM pipeline.movement_aggregates_v1 WHERE grain = 'day' AND dimension = 'warehouse'
         GROUP BY date ORDER BY date
        """
    )
    assert {str(row["date"]): {"net_units": row["demand"], "movements": row["movements"]} for row in rows} == answers[
        "per_day"
    ]
    months: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        months[f"{row['date']:%Y-%m}"][0] += row["demand"]
        months[f"{row['date']:%Y-%m}"][1] += row["movements"]
    assert months == {month: [of["net_units"], of["movements"]] for month, of in answers["per_month"].items()}
    totals = answers["totals"]
    assert sum(row["demand"] for row in rows) == totals["net_units_sold"]
    assert sum(row["movements"] for row in rows) == totals["movements"]


async def check_top_skus(connection: Any, answers: dict[str, Any]) -> None:
    """Totals, exact value, velocity of every window and the trend's ratio of the 20 skus sold most."""
    for expected in answers["top20_skus_by_net_units"]:
        total = await connection.fetchrow(
            """
            SELECT sum(demand)::bigint AS demand,
                   sum(units_out)::bigint AS units_out, sum(units_in)::bigint AS units_in,
                   sum(movements)::bigint AS movements, -sum(value) AS value,
                   sum(demand) FILTER (WHERE date BETWEEN $2::date - 59 AND $2::date - 30)::bigint AS before
              FROM pipeline.movement_aggregates_v1 WHERE grain = 'day' AND dimension = 'sku' AND key = $1
            """,
            expected["sku"],
            AS_OF,
        )
        assert (total["demand"], total["units_out"], total["units_in"], total["movements"]) == (
            expected["net_units"],
            expected["gross_outbound_units"],
            expected["gross_inbound_units"],
            expected["movements"],
        )
        assert total["value"] == Decimal(str(expected["net_value"]))
        assert total["before"] == expected["trend_30d"]["previous_30d_net_units"]
        metric = await connection.fetchrow(
            """
            SELECT sum(demand_7)::bigint AS demand_7, sum(demand_30)::bigint AS demand_30,
                   sum(demand_90)::bigint AS demand_90, sum(velocity_7) AS velocity_7, sum(velocity_30) AS velocity_30,
                   sum(velocity_90) AS velocity_90
              FROM pipeline.daily_metrics_v1 WHERE date = $2 AND sku = $1
            """,
            expected["sku"],
            AS_OF,
        )
        for days in (7, 30, 90):
            velocity = expected["velocity"][f"{days}d"]
            assert metric[f"demand_{days}"] == velocity["net_units"]
            assert metric[f"velocity_{days}"] == pytest.approx(velocity["units_per_day"], abs=5e-7)
        ratio = (metric["demand_30"] - total["before"]) / total["before"]
        assert ratio == pytest.approx(expected["trend_30d"]["change_ratio"], abs=5e-7)


async def check_warehouses(connection: Any, answers: dict[str, Any]) -> None:
    rows = await connection.fetch(
        """
        SELECT key, sum(demand)::bigint AS demand, sum(movements)::bigint AS movements
          FROM pipeline.movement_aggregates_v1 WHERE grain = 'week' AND dimension = 'warehouse'
         GROUP BY key ORDER BY demand DESC, key LIMIT 10
        """
    )
    assert [(row["key"], row["demand"], row["movements"]) for row in rows] == [
        (of["warehouse"], of["net_units"], of["movements"]) for of in answers["top10_warehouses_by_net_units"]
    ]


async def check_snapshot(connection: Any, moves: list[Move]) -> None:
    stock: dict[tuple[str, str], int] = defaultdict(int)
    for move in moves:
        stock[move.sku, move.warehouse_id] += move.units
    rows = await connection.fetch(
        "SELECT sku, warehouse_id, quantity_on_hand FROM pipeline.snapshots_v1 WHERE date = $1", AS_OF
    )
    assert {(row["sku"], row["warehouse_id"]): row["quantity_on_hand"] for row in rows} == stock


async def check_stream(connection: Connection, moves: list[Move]) -> None:
    """The stream's own metrics after it has read every entry as an event: equal in every figure of every stock item."""
    sequences: dict[tuple[str, str], int] = defaultdict(int)
    events = []
    for move in moves:
        item = move.sku, move.warehouse_id
        sequences[item] += 1
        events.append(
            an_inventory_update(
                move.sku,
                sequences[item],
                warehouse_id=move.warehouse_id,
                quantity_change=move.units,
                transaction_type=TransactionType(move.kind),
                timestamp=move.at,
                recorded_at=move.at + timedelta(minutes=1),
            )
        )
    await apply(connection, *events, flush=20_000)
    await connection.execute("SET statement_timeout = 0")
    items = sorted(sequences)
    await metric_queries.lock_metrics(connection, items)
    streamed = await metric_queries.calculate(connection, items, AS_OF)
    columns = (
        *(f"{figure}_{days}" for figure in ("demand", "velocity", "sd_daily") for days in (7, 30, 90)),
        *("change_ratio_30d", "slope_per_day", "t_statistic", "direction"),
    )
    batch = await connection.fetch("SELECT * FROM daily_metric WHERE date = $1", AS_OF)

    def figures(rows: list[asyncpg.Record]) -> dict[tuple[str, str], list[Any]]:
        return {(row["sku"], row["warehouse_id"]): [row[column] for column in columns] for row in rows}

    assert figures(batch) == figures(streamed)
