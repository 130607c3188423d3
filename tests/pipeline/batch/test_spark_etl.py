"""The whole of `inventory_etl` on Spark leaves the rows that it leaves on DuckDB."""

from typing import Any

import pytest

from libs.chassis.database import Connection, Pool
from services.pipeline.jobs.run import RunStatus
from services.pipeline.settings import Settings
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.pipeline.batch.test_inventory_etl import OUTPUTS, empty_outputs, lake_rows, rows, run
from tests.pipeline.batch.test_spark import configure, needs_spark
from tests.stack import Database

pytestmark = needs_spark
IN_LAKE = ("ledger_entries", "item_days", *OUTPUTS)


async def test_both_engines_leave_the_same_rows(
    pool: Pool,
    settings: Settings,
    connection: Connection,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    configure(tmp_path_factory.mktemp("spark"), monkeypatch)
    await ledger.empty(database)
    await empty_outputs(database)
    sold = [on(day, -day, sku=sku, warehouse_id=each) for day in range(2, 9) for sku in "AB" for each in "XY"]
    stocked = [on(1, 90, "RECEIPT", sku, each) for sku in "AB" for each in "XY"]
    await ledger.post(database, [*stocked, *sold, on(9, 3, "RETURN")])
    left: dict[str, list[Any]] = {}
    for engine in ("duckdb", "spark"):
        on_engine = settings.model_copy(
            update={"batch_engine": engine, "lake_url": f"{settings.lake_url}-{engine}", "batch_memory_limit": "1GiB"}
        )

        steps = [await run(pool, on_engine, 1, 9), await run(pool, on_engine, 4, 4, warehouse_id="X")]

        assert [each["status"] for each in steps] == [RunStatus.SUCCEEDED] * 2
        left[engine] = [await rows(connection, table) for table in OUTPUTS]
        left[engine] += [lake_rows(on_engine, name) for name in IN_LAKE]
        await empty_outputs(database)

    assert len(left["duckdb"][0]) > 30
    assert left["spark"] == left["duckdb"]
