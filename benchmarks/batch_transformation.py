"""The batch transformation of five million ledger entries, beside plain DuckDB and Polars scripts of the same.

`python -m benchmarks.batch_transformation` makes the entries once, then has each program read them from Parquet,
calculate every metric of windows (velocity and deviation, trend, turnover, days of supply) per sku, warehouse and day
with movements, and write Parquet: each in a process of its own, in turns. Writes the medians of all rounds to
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
from ibis import ir

from benchmarks import report
from benchmarks.machine import machine
from services.pipeline.jobs import contract, transformation
from services.pipeline.jobs.engine import open_engine
from services.pipeline.trend import CRITICAL_T

OURS, PEER = "stockflow on DuckDB", "DuckDB script"
PROMISED = 1.5
ENTRIES = 5_000_000
SKUS, WAREHOUSES, DAYS = 2_000, 5, 365
FIRST_DAY = 20_000
MEMORY = "2GiB"
ITEM = transformation.STOCK_ITEM
RESULT = pa.schema(
    [field for field in contract.DAILY_METRIC.schema if field.name not in ("stockout_risk", "abc_class", "xyz_class")]
)
"""What a window of the movements tells; classes rank stock items, and the risk is calculated outside of the engine."""


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


def metrics(entries: ir.Table) -> ir.Table:
    """Every metric of windows per stock item and day with movements, by the expressions of the job."""
    days = transformation.item_days(entries)
    so_far = ibis.cumulative_window(group_by=ITEM, order_by="day")
    stock = days.select(*ITEM, "day", quantity_on_hand=days.net_change.sum().over(so_far))
    return transformation.metrics(days, stock)


def with_ibis(engine_name: str) -> Callable[[Path, Path], None]:
    """Our own expressions, on an engine."""

    def run(source: Path, target: Path) -> None:
        with open_engine(engine_name, memory_limit=MEMORY, spill_folder=None) as engine:
            names = ("sku", "warehouse_id", "transaction_type", "quantity_change", "day")
            entries = engine.read(
                [str(source)], pa.schema([contract.LEDGER_ENTRIES.schema.field(name) for name in names])
            )
            rows = engine.rows(metrics(entries), RESULT)
            with pq.ParquetWriter(target, RESULT, compression="zstd") as writer:
                for batch in rows:
                    writer.write_batch(batch)

    return run


def with_duckdb(source: Path, target: Path) -> None:
    """The same in SQL, as a script would have it."""
    windows = ", ".join(
        f"w{days} AS (PARTITION BY sku, warehouse_id ORDER BY day RANGE BETWEEN {days - 1} PRECEDING AND CURRENT ROW)"
        for days in (7, 30, 60, 90)
    )
    demands = ", ".join(f"sum(demand) OVER w{days} AS demand_{days}" for days in (7, 30, 60, 90))
    squares = ", ".join(f"sum(demand * demand) OVER w{days} AS squares_{days}" for days in (7, 30, 90))
    stock = ", ".join(
        f"sum(net_change) OVER w{days} AS net_{days}, sum(net_change * day) OVER w{days} AS net_moments_{days}"
        for days in (30, 90)
    )
    velocities = ", ".join(f"demand_{days} / {days} AS velocity_{days}" for days in (7, 30, 90))
    deviations = ", ".join(
        f"sqrt(({days} * squares_{days} - demand_{days} * demand_{days}) / {days * (days - 1)}) AS sd_daily_{days}"
        for days in (7, 30, 90)
    )
    turnovers = ", ".join(
        f"""
        demand_{days} / (nullif({days} * on_hand - net_moments_{days} + (day - {days - 1}) * net_{days}, 0) / {days})
        * (365 / {days}) AS turnover_{days}
        """
        for days in (30, 90)
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
                SELECT *, {demands}, {squares}, {stock}, sum(demand * day) OVER w30 AS moments,
                       sum(net_change) OVER (PARTITION BY sku, warehouse_id ORDER BY day) AS on_hand
                  FROM days WINDOW {windows}),
            trends AS (
                SELECT *, 30 * (moments - (day - 29) * demand_30) - 435 * demand_30 AS sxy,
                       67425 * (30 * squares_30 - demand_30 * demand_30) - sxy * sxy AS residual,
                       CASE WHEN residual > 0 THEN sxy * sqrt(28) / sqrt(residual) END AS t_statistic
                  FROM sums)
            SELECT sku, warehouse_id, day, demand_7, demand_30, demand_90, {velocities}, {deviations},
                   (2 * demand_30 - demand_60) / nullif(demand_60 - demand_30, 0) AS change_ratio_30d,
                   sxy / 67425 AS slope_per_day, t_statistic,
                   CASE WHEN sxy = 0 OR abs(t_statistic) < {CRITICAL_T} THEN 'FLAT'
                        WHEN sxy > 0 THEN 'UP' ELSE 'DOWN' END AS direction,
                   {turnovers}, CASE WHEN demand_30 > 0 THEN on_hand / (demand_30 / 30) END AS days_of_supply
              FROM trends
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

    def demand_of(window: int) -> pl.Expr:
        return pl.col(f"demand_{window}")

    def turnover(window: int) -> pl.Expr:
        missing = pl.col(f"net_moments_{window}") - (day - (window - 1)) * pl.col(f"net_{window}")
        stock_days = window * pl.col("on_hand") - missing
        turned = demand_of(window) / (stock_days / window) * (365 / window)
        return pl.when(stock_days > 0).then(turned)

    day = pl.col("day").cast(pl.Int64)
    sums = days.with_columns(
        **{f"demand_{window}": over(pl.col("demand"), window) for window in (7, 30, 60, 90)},
        **{f"squares_{window}": over(pl.col("demand") ** 2, window) for window in (7, 30, 90)},
        **{f"net_{window}": over(pl.col("net_change"), window) for window in (30, 90)},
        **{f"net_moments_{window}": over(pl.col("net_change") * day, window) for window in (30, 90)},
        moments=over(pl.col("demand") * day, 30),
        on_hand=pl.col("net_change").cum_sum().over(ITEM),
    )
    trends = sums.with_columns(
        sxy=30 * (pl.col("moments") - (day - 29) * demand_of(30)) - 435 * demand_of(30),
        syy=30 * pl.col("squares_30") - demand_of(30) ** 2,
    ).with_columns(residual=67425 * pl.col("syy") - pl.col("sxy") ** 2)
    t_statistic = pl.when(pl.col("residual") > 0).then(pl.col("sxy") * 28**0.5 / pl.col("residual").sqrt())
    is_flat = (pl.col("sxy") == 0) | (pl.col("t_statistic").abs() < CRITICAL_T)
    before = demand_of(60) - demand_of(30)
    trends.with_columns(t_statistic=t_statistic).select(
        *ITEM,
        "day",
        *(f"demand_{window}" for window in (7, 30, 90)),
        **{f"velocity_{window}": demand_of(window) / window for window in (7, 30, 90)},
        **{
            f"sd_daily_{window}": (
                (window * pl.col(f"squares_{window}") - demand_of(window) ** 2) / (window * (window - 1))
            ).sqrt()
            for window in (7, 30, 90)
        },
        change_ratio_30d=pl.when(before != 0).then((demand_of(30) - before) / before),
        slope_per_day=pl.col("sxy") / 67425,
        t_statistic=pl.col("t_statistic"),
        direction=pl.when(is_flat)
        .then(pl.lit("FLAT"))
        .when(pl.col("sxy") > 0)
        .then(pl.lit("UP"))
        .otherwise(pl.lit("DOWN")),
        **{f"turnover_{window}": turnover(window) for window in (30, 90)},
        days_of_supply=pl.when(demand_of(30) > 0).then(pl.col("on_hand") / (demand_of(30) / 30)),
    ).sink_parquet(target, compression="zstd")


PROGRAMS: dict[str, Callable[[Path, Path], None]] = {
    OURS: with_ibis("duckdb"),
    PEER: with_duckdb,
    "Polars script": with_polars,
    **({"stockflow on Spark": with_ibis("spark")} if find_spec("pyspark") else {}),
}


def checksum(path: Path) -> list[float]:
    """What must be the same whoever calculated it: every column, summed or counted, to nine digits."""
    is_number = {field.name: pa.types.is_integer(field.type) or pa.types.is_floating(field.type) for field in RESULT}
    sums = ", ".join(f"sum({name})" for name in RESULT.names if is_number[name])
    found = duckdb.sql(
        f"""
        SELECT count(*), count(*) FILTER (WHERE direction = 'UP'), count(*) FILTER (WHERE direction = 'FLAT'),
               {sums} FROM '{path}'
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
