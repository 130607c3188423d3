"""The batch jobs end to end on a ledger of five million entries: the first load, one more day, one more hour.

`python -m benchmarks.batch_jobs` fills the ledger of an embedded PostgreSQL, runs each job as its command line does,
and prints one JSON object per step from the run ledger: rows, wall and CPU seconds, peak memory of the process. They
are in `benchmarks/results/batch_jobs.json`, too.
"""

import argparse
import asyncio
import json
import os
import sys
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from benchmarks import report
from benchmarks.machine import machine
from deploy.local.servers import Servers
from tests.stack import ROOT, Database, migrate

ENTRIES = 5_000_000
ITEMS = 10_000
DAYS = 365
FIRST = date(2025, 1, 1)
LAST = FIRST + timedelta(days=DAYS - 1)
STOCK = 10_000_000

_PREPARE = f"""
    SET search_path = inventory;
    INSERT INTO category (category_id, name, request_hash)
    SELECT 'C' || n, 'Category ' || n, '' FROM generate_series(0, 19) AS n;
    INSERT INTO warehouse (warehouse_id, name, timezone, request_hash)
    SELECT 'W' || n, 'Warehouse ' || n, 'UTC', '' FROM generate_series(0, 4) AS n;
    INSERT INTO product (sku, name, category_id, unit_cost, attributes, request_hash)
    SELECT 'SKU-' || n, 'Product ' || n, 'C' || n % 20, 2.5, '{{}}', '' FROM generate_series(0, {ITEMS // 5 - 1}) AS n;
    INSERT INTO stock_level (sku, warehouse_id) SELECT sku, warehouse_id FROM product CROSS JOIN warehouse;
"""

# Entry n belongs to item n % ITEMS and is its entry n / ITEMS + 1, the first being the opening balance; entries are
# spread evenly over the days, every tenth sale is a return.
_POST = f"""
    CREATE TEMP TABLE entry ON COMMIT DROP AS
    SELECT md5(n::text)::uuid AS transaction_id, 'SKU-' || n % {ITEMS} / 5 AS sku, 'W' || n % 5 AS warehouse_id,
           n / {ITEMS} + 1 AS sequence,
           CASE WHEN n < {ITEMS} THEN 'OPENING_BALANCE' WHEN n % 11 = 0 THEN 'RETURN' ELSE 'SALE' END AS kind,
           CASE WHEN n < {ITEMS} THEN {STOCK} WHEN n % 11 = 0 THEN n % 7 + 1 ELSE -(n % 19 + 1) END AS units,
           $3::timestamptz + ($4::interval) * ((n - $1) / ($2 - $1 + 1)::float8) AS at
      FROM generate_series($1::bigint, $2::bigint) AS n;
"""
_INSERT = """
    INSERT INTO inventory.stock_transaction (transaction_id, transaction_type, actor, source, request_hash, occurred_at,
                                             recorded_at, line_count)
    SELECT transaction_id, kind, 'bench', 'bench', '', at, at, 1 FROM entry;
    INSERT INTO inventory.ledger_entry (sku, warehouse_id, sequence, transaction_id, line_no, quantity_change,
        quantity_before, quantity_after, quantity_reserved_after, revision, unit_price, occurred_at, recorded_at)
    SELECT sku, warehouse_id, sequence, transaction_id, 1, units, balance - units, balance, 0, sequence, 9.95, at, at
      FROM (SELECT entry.*, level.quantity_on_hand + sum(units) OVER (
                       PARTITION BY sku, warehouse_id ORDER BY entry.sequence) AS balance
              FROM entry JOIN inventory.stock_level AS level USING (sku, warehouse_id)) AS entry;
    UPDATE inventory.stock_level AS level
       SET quantity_on_hand = quantity_on_hand + posted.units, sequence = posted.sequence, revision = posted.sequence
      FROM (SELECT sku, warehouse_id, sum(units) AS units, max(sequence) AS sequence FROM entry GROUP BY 1, 2) AS posted
     WHERE (level.sku, level.warehouse_id) = (posted.sku, posted.warehouse_id);
"""


async def post(connection: asyncpg.Connection, first: int, last: int, day: date, days: int) -> None:
    """Add the entries of these numbers, spread over some days."""
    midnight = f"{day} 00:00Z"
    async with connection.transaction():
        # The entries continue each other by the way they are made: millions of checks would only say so.
        await connection.execute("SET LOCAL session_replication_role = replica")
        # A CREATE TABLE AS takes no parameters.
        statement = _POST
        for place, value in enumerate((str(first), str(last), f"'{midnight}'", f"'{days} days'"), start=1):
            statement = statement.replace(f"${place}", value)
        await connection.execute(statement)
        await connection.execute(_INSERT)


async def run(database: Database, lake: Path, engine: str, job: str, start: str, end: str) -> list[dict[str, object]]:
    """Run a job as its command line does: what each step took."""
    environment = {
        **os.environ,
        "DATABASE_URL": database.url("pipeline"),
        "BATCH_DATABASE_URL": database.url("batch"),
        "MONGO_URL": database.servers.mongo_url("analytics"),
        "REDIS_URL": database.servers.redis_url(0),
        "KAFKA_BOOTSTRAP_SERVERS": database.servers.kafka_bootstrap_servers,
        "LAKE_URL": str(lake),
        "AUTH_MODE": "off",
        "BATCH_ENGINE": engine,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.pipeline.jobs", "run", job, "--from", start, "--to", end),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0, f"{job} failed; its output is above"
    connection = await asyncpg.connect(database.url("pipeline"))
    steps = await connection.fetch(
        """
        SELECT step, rows_in, rows_out, cpu_seconds, peak_memory_bytes, cardinality(partitions) AS partitions,
               extract(epoch FROM finished_at - started_at)::float8 AS seconds
          FROM run_step WHERE run_id = (SELECT run_id FROM run ORDER BY requested_at DESC LIMIT 1) ORDER BY position
        """
    )
    await connection.close()
    figures: list[dict[str, object]] = [
        {
            "engine": engine,
            "job": job,
            "interval": f"{start} to {end}",
            "step": step["step"],
            "rowsIn": step["rows_in"],
            "rowsOut": step["rows_out"],
            "partitions": step["partitions"],
            "wallSeconds": round(step["seconds"], 2),
            "cpuSeconds": round(step["cpu_seconds"], 2),
            "peakMemoryMiB": round(step["peak_memory_bytes"] / 2**20),
        }
        for step in steps
    ]
    for one in figures:
        print(json.dumps(one), flush=True)
    return figures


async def measure(entries: int, engine: str, snapshot_days: int) -> list[dict[str, object]]:
    """Fill the ledger, then the first load with snapshots of the latest days, one incremental day, one hour."""
    with TemporaryDirectory(prefix="stockflow-bench-") as name:
        async with Servers(Path(name), durable=False) as servers:
            database = Database(servers, "bench")
            await servers.create_database(database.name)
            await migrate(database.superuser_url)
            connection = await asyncpg.connect(database.superuser_url)
            await connection.execute(_PREPARE)
            await post(connection, 0, entries - 1, FIRST, DAYS)
            await connection.execute("ANALYZE")
            print(f"{entries:,} entries posted", file=sys.stderr)
            lake, next_day = Path(name) / "lake", LAST + timedelta(days=1)
            begin = LAST - timedelta(days=snapshot_days - 1)
            figures = await run(database, lake, engine, "inventory_etl", str(begin), str(next_day))
            figures += await run(database, lake, engine, "transaction_aggregation", str(LAST), str(next_day))
            posted = entries + entries // DAYS
            await post(connection, entries, posted - 1, next_day, 1)
            day_after = next_day + timedelta(days=1)
            figures += await run(database, lake, engine, "inventory_etl", str(next_day), str(day_after))
            hour = f"{next_day}T22:05", f"{next_day}T23:05"
            figures += await run(database, lake, engine, "transaction_aggregation", *hour)
            await connection.close()
    return figures


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--engines", choices=("duckdb", "spark"), nargs="+", default=["duckdb"])
    parser.add_argument("--snapshot-days", type=int, default=30, help="days of which the first load takes snapshots")
    arguments = parser.parse_args()
    figures = [
        step
        for engine in arguments.engines
        for step in asyncio.run(measure(arguments.entries, engine, arguments.snapshot_days))
    ]
    report.write("batch_jobs", f"{machine()}, {arguments.entries:,} entries", figures)


if __name__ == "__main__":
    main()
