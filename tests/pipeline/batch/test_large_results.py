"""Sums of millions of entries come to their end: DuckDB's streamed results had waited for themselves for ever."""

import subprocess
import sys
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.pipeline.jobs import transformation
from services.pipeline.jobs.contract import MOVEMENT_AGGREGATE
from services.pipeline.jobs.engine import open_engine

ENTRIES, SKUS, WAREHOUSES, HOURS, FIRST_DAY = 5_000_000, 2_000, 5, 365 * 24, 20_000
MOST_SECONDS = 240
GRAINS = ("hour", "day", "week")


def make_entries(path: Path) -> int:
    """Sales of one to nine units, spread evenly over stock items and hours; the units in all."""
    random = np.random.default_rng(5)
    units, hours = random.integers(1, 10, ENTRIES), FIRST_DAY * 24 + random.integers(0, HOURS, ENTRIES)
    skus = pa.DictionaryArray.from_arrays(random.integers(0, SKUS, ENTRIES), [f"SKU-{sku:05}" for sku in range(SKUS)])
    warehouses = pa.DictionaryArray.from_arrays(
        random.integers(0, WAREHOUSES, ENTRIES), [f"W{warehouse}" for warehouse in range(WAREHOUSES)]
    )
    entries = pa.table(
        {
            "sku": skus.cast(pa.string()),
            "warehouse_id": warehouses.cast(pa.string()),
            "transaction_type": pa.repeat("SALE", ENTRIES),
            "quantity_change": -units,
            "unit_price_micros": pa.repeat(12_500_000, ENTRIES),
            "unit_cost_micros": pa.repeat(7_250_000, ENTRIES),
            "hour": pa.array(hours, pa.int32()),
            "day": pa.array(hours // 24, pa.int32()),
        }
    )
    pq.write_table(entries, path)
    return int(units.sum())


def write_demand(path: Path) -> None:
    """Every sum that the hourly job makes, read in batches; the demand by grain and dimension to standard output."""
    products = pa.table(
        {
            "sku": [f"SKU-{sku:05}" for sku in range(SKUS)],
            "valid_from": pa.repeat(0, SKUS),
            "valid_to": pa.repeat(2**62, SKUS),
            "category_id": [f"C{sku % 10}" for sku in range(SKUS)],
        }
    )
    demand = dict.fromkeys(
        ((grain, dimension) for grain in GRAINS for dimension in ("sku", "warehouse", "category")), 0
    )
    with open_engine("duckdb", memory_limit="1GiB", spill_folder=None) as engine:
        entries, versions = engine.read([str(path)], pq.read_schema(path)), engine.table(products)
        sums = ibis.union(*(transformation.aggregates(entries, versions, grain) for grain in GRAINS))
        dated = sums.mutate(day=(sums.bucket_hour // transformation.HOURS_PER_DAY).cast("int32"))
        days = engine.days(range(FIRST_DAY - 6, FIRST_DAY + HOURS // 24))
        for batch in engine.rows(dated.semi_join(days, "day"), MOVEMENT_AGGREGATE.schema):
            summed = pa.table(batch).group_by(["grain", "dimension"]).aggregate([("demand", "sum")])
            for row in summed.to_pylist():
                demand[row["grain"], row["dimension"]] += row["demand_sum"]
    sys.stdout.write(" ".join(map(str, demand.values())))


@pytest.mark.slow
@pytest.mark.timeout(2 * MOST_SECONDS)
def test_all_sums_of_five_million_entries(tmp_path: Path) -> None:
    path = tmp_path / "entries.parquet"
    units = make_entries(path)

    # In a process of its own, which a hang of the engine does not outlive.
    written = subprocess.run(
        [sys.executable, "-m", __name__, path],
        check=True,
        capture_output=True,
        timeout=MOST_SECONDS,
    ).stdout

    assert written.split() == [str(units).encode()] * 9


if __name__ == "__main__":
    write_demand(Path(sys.argv[1]))
