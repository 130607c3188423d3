"""How soon a posted stock transaction is seen in each store, under a steady load of events.

`python -m benchmarks.event_latency` starts a whole local stack, posts transactions of four lines in batches of ten so
that they make so many events per second (five each: one per line, and the document), and posts one more of a single
line by itself ten times a second. It prints the time from that one's 201 until each store shows it: the median, the
99th percentile and the longest, and writes them to `benchmarks/results/event_latency.json`. A store is looked at every
20 ms, MongoDB every 100 ms, because looking costs the embedded server time; the lake tells by its commit log.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote
from uuid import UUID, uuid4

import asyncpg
import httpx
import redis.asyncio as redis
from pyarrow import parquet
from pymongo import AsyncMongoClient

from benchmarks import report
from benchmarks.machine import machine
from deploy.local.stack import Stack
from libs.events.envelope import document_event_id
from libs.events.topics import INVENTORY_EVENTS

SKUS = 200
WAREHOUSES = 4
BATCH = 10
LINES = 4
PROBES_PER_SECOND = 10.0
LOOK_SECONDS = 0.02
MONGO_LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 120.0
QUANTILES = {"p50Seconds": 0.5, "p99Seconds": 0.99, "longestSeconds": 1.0}
ASKED_AT_ONCE = 20
"""Probes that one look at MongoDB asks for: the embedded server's time for a list of ids grows with its square."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A transaction whose way is followed."""

    transaction_id: UUID
    sku: str
    warehouse_id: str
    sequence: int
    answered_at: float
    """Seconds since 1970."""

    @property
    def event_id(self) -> str:
        """The id of its document event, under which MongoDB and the lake keep it."""
        return str(document_event_id("TRANSACTION", self.transaction_id, 1))


Visible = Callable[[Collection[Probe]], Awaitable[set[Probe]]]
"""Which of the probes a store shows."""


@dataclass(slots=True)
class Watch:
    """One store, and when it showed each probe."""

    store: str
    visible: Visible
    look_seconds: float = LOOK_SECONDS
    waiting: set[Probe] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)

    async def look(self, stop: asyncio.Event) -> None:
        """Look again and again until asked to stop and nothing waits any more."""
        gives_up_at = float("inf")
        while not stop.is_set() or (self.waiting and time.monotonic() < gives_up_at):
            if stop.is_set():
                gives_up_at = min(gives_up_at, time.monotonic() + PATIENCE_SECONDS)
            if self.waiting:
                asked = tuple(self.waiting)
                seen = await self.visible(asked)
                now = time.time()
                self.seconds += [now - probe.answered_at for probe in seen]
                self.waiting -= seen
            await asyncio.sleep(self.look_seconds)


def in_postgres(pool: asyncpg.Pool) -> Visible:
    """The pipeline's positions, which are written with the facts."""

    async def visible(probes: Collection[Probe]) -> set[Probe]:
        rows = await pool.fetch(
            """
            SELECT probe.number FROM unnest($1::text[], $2::text[], $3::bigint[])
                   WITH ORDINALITY AS probe(sku, warehouse_id, sequence, number)
              JOIN pipeline.stock_position AS position USING (sku, warehouse_id)
             WHERE position.last_sequence >= probe.sequence
            """,
            [probe.sku for probe in probes],
            [probe.warehouse_id for probe in probes],
            [probe.sequence for probe in probes],
        )
        ordered = list(probes)
        return {ordered[row["number"] - 1] for row in rows}

    return visible


def in_redis(client: Any) -> Visible:
    """The stock in Redis; without reservations a level's revision is its sequence."""

    async def visible(probes: Collection[Probe]) -> set[Probe]:
        pipeline = client.pipeline(transaction=False)
        for probe in probes:
            pipeline.hget(f"stock:levels:{probe.warehouse_id}", probe.sku)
        levels = await pipeline.execute()
        found = zip(probes, levels, strict=True)
        return {probe for probe, level in found if level and json.loads(level)["revision"] >= probe.sequence}

    return visible


def in_mongo(database: Any) -> Visible:
    """The history in MongoDB, the oldest probes first."""

    async def visible(probes: Collection[Probe]) -> set[Probe]:
        oldest = sorted(probes, key=lambda probe: probe.answered_at)[:ASKED_AT_ONCE]
        by_id = {probe.event_id: probe for probe in oldest}
        found = database["transactions"].find({"_id": {"$in": list(by_id)}}, {"_id": 1})
        return {by_id[document["_id"]] async for document in found}

    return visible


def in_lake(lake_url: str, probes: Collection[Probe]) -> list[float]:
    """The seconds to the table commit that brought each probe. Raises KeyError when one is not in the lake."""
    table = Path(lake_url) / INVENTORY_EVENTS.name
    committed_at: dict[str, float] = {}
    for commit in sorted((table / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        for action in actions:
            if "add" in action:
                rows = parquet.read_table(table / unquote(action["add"]["path"]), columns=["eventId"])
                for event_id in rows["eventId"].to_pylist():
                    committed_at.setdefault(str(event_id), commit.stat().st_mtime)
    return [committed_at[probe.event_id] - probe.answered_at for probe in probes]


class Client:
    """Posts transactions about random stock items; they all have stock enough."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._choice = random.Random(1)
        self.events = 0
        """Ledger entries and documents that were posted."""

    async def fill(self) -> None:
        """Create products and warehouses, and fill every shelf."""
        warehouses = [f"W{number}" for number in range(WAREHOUSES)]
        for warehouse_id in warehouses:
            await self._post("warehouses", {"warehouseId": warehouse_id, "name": warehouse_id})
        for first in range(0, SKUS, 20):
            skus = [f"SKU-{number}" for number in range(first, first + 20)]
            for sku in skus:
                await self._post("products", {"sku": sku, "name": sku})
            lines = [_line(sku, warehouse_id, 1_000_000) for sku in skus for warehouse_id in warehouses]
            await self._post("transactions", _document("OPENING_BALANCE", lines))

    async def load(self, events_per_second: float, seconds: float) -> None:
        """Post batches at a steady rate; a late one is not made up for."""
        batches = int(seconds * events_per_second / (LINES + 1) / BATCH)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(batches):
                tasks.create_task(self._batch())
                await asyncio.sleep(seconds / batches)

    async def probe(self) -> Probe:
        """Post one transaction by itself."""
        document = _document("SALE", [self._sale()])
        answer = await self._post("transactions", document)
        answered_at = time.time()
        [line] = answer["lines"]
        self.events += 2
        return Probe(UUID(document["transactionId"]), line["sku"], line["warehouseId"], line["sequence"], answered_at)

    async def _batch(self) -> None:
        documents = [_document("SALE", [self._sale() for _ in range(LINES)]) for _ in range(BATCH)]
        answer = await self._post("transaction-batches", {"errorPolicy": "rejectAll", "transactions": documents})
        self.events += answer["posted"] * (LINES + 1)

    def _sale(self) -> dict[str, Any]:
        return _line(f"SKU-{self._choice.randrange(SKUS)}", f"W{self._choice.randrange(WAREHOUSES)}", -1)

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        response = await self._http.post(path, json=body)
        while response.status_code == 503:  # Nothing was changed; the ids make a repetition safe.
            await asyncio.sleep(float(response.headers["Retry-After"]))
            response = await self._http.post(path, json=body)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


def _document(transaction_type: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {"transactionId": str(uuid4()), "transactionType": transaction_type, "lines": lines}


def _line(sku: str, warehouse_id: str, units: int) -> dict[str, Any]:
    return {"sku": sku, "warehouseId": warehouse_id, "quantityChange": units}


async def follow(client: Client, watches: Collection[Watch], seconds: float) -> list[Probe]:
    """Post probes at a steady rate and hand them to the watches."""
    probes: list[Probe] = []

    async def one() -> None:
        probe = await client.probe()
        probes.append(probe)
        for watch in watches:
            watch.waiting.add(probe)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(int(seconds * PROBES_PER_SECOND)):
            tasks.create_task(one())
            await asyncio.sleep(1 / PROBES_PER_SECOND)
    return probes


async def measure(directory: Path, events_per_second: float, seconds: float, flush_seconds: float) -> dict[str, Any]:
    """Events per second that were reached, and the seconds until each store showed a transaction."""
    stack = Stack(
        directory / "stack", ports="auto", fresh=True, environment={"ARCHIVE_FLUSH_SECONDS": str(flush_seconds)}
    )
    async with stack:
        env = stack.env
        headers = {"Authorization": f"Bearer {env['API_KEY']}"}
        url = f"{env['INVENTORY_URL']}/api/v1/"
        async with (
            httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http,
            asyncpg.create_pool(env["DATABASE_URL"], min_size=1, max_size=1) as pool,
            redis.from_url(env["REDIS_URL"]) as cache,
            AsyncMongoClient[dict[str, Any]](env["MONGO_URL"]) as mongo,
        ):
            client = Client(http)
            await client.fill()
            await client.load(events_per_second, 10.0)  # Everything is warm afterwards.
            watches = [
                Watch("Postgres", in_postgres(pool)),
                Watch("Redis", in_redis(cache)),
                Watch("MongoDB", in_mongo(mongo.get_default_database()), MONGO_LOOK_SECONDS),
            ]
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                for watch in watches:
                    tasks.create_task(watch.look(stop))
                events_before, began = client.events, time.monotonic()
                load = tasks.create_task(client.load(events_per_second, seconds))
                probes = await follow(client, watches, seconds)
                await load
                rate = (client.events - events_before) / (time.monotonic() - began)
                stop.set()
            await asyncio.sleep(2 * flush_seconds + 10)
            stores = {watch.store: watch.seconds for watch in watches}
            stores["lake"] = await asyncio.to_thread(in_lake, env["LAKE_URL"], probes)
    return {"eventsPerSecond": rate, "probes": len(probes), "stores": stores}


def quantile(values: Collection[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def main() -> None:
    """Measure and print; exit code 1 when a store did not show every probe."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.event_latency", description=__doc__)
    parser.add_argument("--events-per-second", type=float, default=1_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--flush-seconds", type=float, default=5, help="ARCHIVE_FLUSH_SECONDS, the age at which the archive commits"
    )
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="stockflow-latency-") as folder:
        found = asyncio.run(
            measure(Path(folder), arguments.events_per_second, arguments.seconds, arguments.flush_seconds)
        )
    probes, reached = found["probes"], found["eventsPerSecond"]
    print(f"{reached:,.0f} events/s, {probes} transactions followed")
    figures = [
        {"store": store, "seen": len(seconds), "of": probes}
        | {name: round(quantile(seconds, share), 3) for name, share in QUANTILES.items()}
        for store, seconds in found["stores"].items()
    ]
    for one in figures:
        print(json.dumps(one))
    report.write("event_latency", f"{machine()}, {reached:,.0f} events/s", figures)
    sys.exit(any(len(seconds) < found["probes"] for seconds in found["stores"].values()))


if __name__ == "__main__":
    main()
