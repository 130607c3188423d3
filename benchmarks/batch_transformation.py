"""The batch transformation of five million ledger entries, beside plain DuckDB and Polars scripts of the same.

`python -m benchmarks.batch_transformation` makes the entries once, then has each program read them from Parquet,
calculate demand, 7-, 30- and 90-day velocity, slope and turnover per sku, warehouse and day with movements, and write
Parquet: each in a process of its own, in turns. Writes the medians of all rounds to
`benchmarks/results/batch_transformation.json`, and refuses figures when the checksums differ. Spark takes part when it
is installed (group `spark`).
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import ibis
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import report
from benchmarks.machine import machine
from services.pipeline.jobs import contract, transformation
from services.pipeline.jobs.engine import open_engine

OURS, PEER = "stockflow on DuckDB", "DuckDB script"
PROMISED = 1.5
ENTRIES = 5_000_000
SKUS, WAREHOUSES, DAYS = 2_000, 5, 365
FIRST_DAY = 20_000
MEMORY = "2GiB"
ITEM = transformation.STOCK_ITEM
RESULT = pa.schema(
    [
        *(contract.ITEM_DAYS.schema.field(name) for name in (*ITEM, "day")),
        *(pa.field(f"demand_{days}", pa.int64()) for days in (7, 30, 90)),
        *(pa.field(f"velocity_{days}", pa.float64()) for days in (7, 30, 90)),
        pa.field("slope_per_day", pa.float64()),
        pa.field("turnover_30", pa.float64()),
    ]
)


def make_entries(path: Path, entries: int) -> None:
    """Opening balances and sales, a tenth of them returns, spread evenly over stock items and days."""
    random = np.random.default_rng(1)
    sku, warehouse = random.integers(SKUS, size=entries), random.integers(WAREHOUSES, size=entries)
    is_return = random.random(entries) < 0.1
    units = random.integers(1, 20, size=entries)
    days = FIRST_DAY + random.integers(DAYS, size=entries)
    opening = SKUS * WAREHOUSES
    items = np.arange(opening)
    table = pl.DataFrame(
        {
            "sku": np.concatenate([items % SKUS, sku]),
            "warehouse_id": np.concatenate([items // SKUS, warehouse]),
            "transaction_type": np.concatenate([np.zeros(opening, int), np.where(is_return, 2, 1)]),
            "quantity_change": np.concatenate([np.full(opening, 1_000_000), np.where(is_return, units, -units)]),
            "day": np.concatenate([np.full(opening, FIRST_DAY), days]).astype(np.int32),
        }
    )
    kinds = pl.Series(["OPENING_BALANCE", "SALE", "RETURN"])
    table.with_columns(
        sku="SKU-" + pl.col("sku").cast(pl.String).str.zfill(5),
        warehouse_id="W" + pl.col("warehouse_id").cast(pl.String),
        transaction_type=kinds.gather(table["transaction_type"]),
    ).write_parquet(path, compression="zstd")


def with_ibis(engine_name: str) -> Callable[[Path, Path], None]:
    """Our own expressions, on an engine."""

    def run(source: Path, target: Path) -> None:
        with open_engine(engine_name, memory_limit=MEMORY, spill_folder=None) as engine:
            names = ("sku", "warehouse_id", "transaction_type", "quantity_change", "day")
            entries = engine.read(
                [str(source)], pa.schema([contract.LEDGER_ENTRIES.schema.field(name) for name in names])
            )
            days = transformation.item_days(entries)
            so_far = ibis.cumulative_window(group_by=ITEM, order_by="day")
            stock = days.select(*ITEM, "day", quantity_on_hand=days.net_change.sum().over(so_far))
            rows = engine.rows(transformation.metrics(days, stock), RESULT)
            with pq.ParquetWriter(target, RESULT, compression="zstd") as writer:
                for batch in rows:
                    writer.write_batch(batch)

    return run


def with_duckdb(source: Path, target: Path) -> None:
    """The same in SQL, as a script would have it."""
    windows = ", ".join(
        f"w{days} AS (PARTITION BY sku, warehouse_id ORDER BY day RANGE BETWEEN {days - 1} PRECEDING AND CURRENT ROW)"
        for days in (7, 30, 90)
    )
    duckdb.sql(f"SET memory_limit = '{MEMORY}'")
    duckdb.sql(
        f"""
        COPY (
            WITH days AS (
                SELECT sku, warehouse_id, day, sum(quantity_change)::bigint AS net_change,
                       sum(CASE WHEN transaction_type IN ('SALE', 'RETURN') THEN -quantity_change ELSE 0 END)::bigint
                           AS demand
                  FROM '{source}' GROUP BY ALL),
            sums AS (
                SELECT *, sum(demand) OVER w7 AS demand_7, sum(demand) OVER w30 AS demand_30,
                       sum(demand) OVER w90 AS demand_90, sum(demand * day) OVER w30 AS moments,
                       sum(net_change) OVER w30 AS net, sum(net_change * day) OVER w30 AS net_moments,
                       sum(net_change) OVER (PARTITION BY sku, warehouse_id ORDER BY day) AS on_hand
                  FROM days WINDOW {windows})
            SELECT sku, warehouse_id, day, demand_7, demand_30, demand_90, demand_7 / 7 AS velocity_7,
                   demand_30 / 30 AS velocity_30, demand_90 / 90 AS velocity_90,
                   (30 * (moments - (day - 29) * demand_30) - 435 * demand_30)::double / 67425 AS slope_per_day,
                   demand_30 / (nullif(30 * on_hand - net_moments + (day - 29) * net, 0) / 30) * (365.0 / 30)
                       AS turnover_30
              FROM sums
        ) TO '{target}' (FORMAT parquet, COMPRESSION zstd)
        """
    )


def with_polars(source: Path, target: Path) -> None:
    """The same with Polars."""
    demand = pl.when(pl.col("transaction_type").is_in(["SALE", "RETURN"])).then(-pl.col("quantity_change")).otherwise(0)
    days = (
        pl.scan_parquet(source)
        .group_by(*ITEM, "day")
        .agg(net_change=pl.col("quantity_change").sum(), demand=demand.sum())
        .sort(*ITEM, "day")
    )

    def over(column: pl.Expr, window: int) -> pl.Expr:
        return column.rolling_sum_by("day", window_size=f"{window}i").over(ITEM)

    day = pl.col("day").cast(pl.Int64)
    sums = days.with_columns(
        **{f"demand_{window}": over(pl.col("demand"), window) for window in (7, 30, 90)},
        moments=over(pl.col("demand") * day, 30),
        net=over(pl.col("net_change"), 30),
        net_moments=over(pl.col("net_change") * day, 30),
        on_hand=pl.col("net_change").cum_sum().over(ITEM),
    )
    demand_30 = pl.col("demand_30")
    stock_days = 30 * pl.col("on_hand") - pl.col("net_moments") + (day - 29) * pl.col("net")
    sums.select(
        *ITEM,
        "day",
        *(f"demand_{window}" for window in (7, 30, 90)),
        **{f"velocity_{window}": pl.col(f"demand_{window}") / window for window in (7, 30, 90)},
        slope_per_day=(30 * (pl.col("moments") - (day - 29) * demand_30) - 435 * demand_30) / 67425,
        turnover_30=demand_30 / (stock_days / 30) * (365 / 30),
    ).sink_parquet(target, compression="zstd")


PROGRAMS: dict[str, Callable[[Path, Path], None]] = {
    OURS: with_ibis("duckdb"),
    PEER: with_duckdb,
    "Polars script": with_polars,
    **({"stockflow on Spark": with_ibis("spark")} if find_spec("pyspark") else {}),
}


def checksum(path: Path) -> list[float]:
    """What must be the same whoever calculated it: exact sums of units, ratios to nine digits."""
    found = duckdb.sql(
        f"""
        SELECT count(*), sum(demand_7), sum(demand_30), sum(demand_90), sum(velocity_30), sum(slope_per_day),
               sum(turnover_30) FROM '{path}'
        """
    ).fetchone()
    assert found is not None
    return [float(f"{value:.9g}") for value in found]


def measured(program: str, source: Path, target: Path) -> dict[str, Any]:
    """One run in a process of its own, children such as a Java machine included."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.batch_transformation", "--only", program]
    process = subprocess.Popen([*command, "--source", str(source), "--target", str(target)])
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    assert status == 0, f"{program} failed; its output is above"
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024}


def main() -> None:
    """Run every program in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=PROGRAMS, help="run one program once on files that are there")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--target", type=Path)
    arguments = parser.parse_args()
    if arguments.only:
        PROGRAMS[arguments.only](arguments.source, arguments.target)
        return
    with TemporaryDirectory(prefix="stockflow-bench-") as name:
        source = Path(name) / "entries.parquet"
        make_entries(source, arguments.entries)
        runs: dict[str, list[dict[str, Any]]] = {program: [] for program in PROGRAMS}
        sums = {}
        for _ in range(arguments.rounds):
            for program, its_runs in runs.items():
                target = Path(name) / f"{program}.parquet"
                its_runs.append(measured(program, source, target))
                sums[program] = checksum(target)
        assert len({tuple(values) for values in sums.values()}) == 1, f"the results differ: {sums}"
        rows = int(next(iter(sums.values()))[0])
    cpu = {program: median(run["cpu"] for run in its_runs) for program, its_runs in runs.items()}
    figures = [
        {
            "program": program,
            "entries": arguments.entries,
            "rows": rows,
            "wallSeconds": round(median(run["wall"] for run in its_runs), 2),
            "cpuSeconds": round(cpu[program], 2),
            "timesTheCpuOfDuckdb": round(cpu[program] / cpu[PEER], 2),
            "peakMemoryMiB": round(median(run["memory"] for run in its_runs) / 2**20),
        }
        for program, its_runs in runs.items()
    ]
    what, unit = f"batch transformation of {arguments.entries:,} entries", "times the CPU time of the peer"
    promise = report.Promise("P7", what, round(cpu[OURS] / cpu[PEER], 2), PROMISED, unit, PEER, at_most=True)
    report.write("batch_transformation", f"{machine()}, {arguments.rounds} rounds", figures, [promise])


if __name__ == "__main__":
    main()
