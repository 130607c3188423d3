"""The stream beside other programs that do the same job: events from Kafka to positions and sums in Postgres.

`python -m benchmarks.streaming_peers` fills one topic of 12 partitions and lets each program read it from its
beginning, one after another, round by round, into a database of its own with durable commits. A program is stopped
when it is done or its time is up. What counts is from its first write on. All are watched alike, by the sequences in
their table of positions, and in the end their daily sums are compared with the topic. Stockflow's stream does more than
the peers: hourly sums beside the daily ones, repeats, gaps, dead letters, offsets in the same transaction. Prints one
JSON object per program and writes them to `benchmarks/results/streaming_peers.json`.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import asyncpg
import psutil

from benchmarks import report
from benchmarks.machine import cpu_seconds, machine, peak_memory_bytes
from benchmarks.peers.sums import TABLES
from benchmarks.streaming_cpu import PARTITIONS, fill, pipeline_environment, sales
from deploy.local.apache_kafka import VERSION, Unavailable, fetch
from deploy.local.servers import Servers
from libs.events.outbox import Message
from libs.events.settings import KafkaSettings
from libs.events.topics import INVENTORY_EVENTS
from tests.stack import ROOT, Database, migrate

OURS = "Stockflow"
LOOP = "aiokafka alone"
ENVIRONMENTS = ROOT / ".local/bench"
START_SECONDS = 60.0
LOOK_SECONDS = 0.1
_APPLIED = "SELECT coalesce(sum(last_sequence), 0)::bigint FROM stock_position"
"""How many events a program has applied: the sequences of a stock item have no gap. One short row per stock item."""

StockItem = tuple[str, str]
"""sku, warehouse_id."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A program, the environment it runs in, and how many times its speed Stockflow promises."""

    environment: str
    argv: Sequence[str]
    promised: float | None = None


PEERS: Mapping[str, Peer] = {
    "FastStream, batches": Peer("faststream", ["-m", "benchmarks.peers.faststream_app", "batch"], 2.5),
    "Quix Streams, batching sink": Peer("quix", ["-m", "benchmarks.peers.quix_sink"], 3.5),
    "Bytewax, batches": Peer("bytewax", ["-m", "bytewax.run", "benchmarks.peers.bytewax_flow:flow"]),
    "Faust, batches": Peer("faust", ["-m", "benchmarks.peers.faust_agent"]),
    "FastStream, one by one": Peer("faststream", ["-m", "benchmarks.peers.faststream_app", "single"]),
    "aiokafka and asyncpg, one by one": Peer("aiokafka", ["-m", "benchmarks.peers.tutorial"], 150),
}
BARE_LOOP = Peer("aiokafka", ["-m", "benchmarks.peers.bare_loop"], 0.2)


@dataclass(frozen=True, slots=True)
class Run:
    """What a program did from its first write on."""

    events_per_second: float
    cpu_microseconds_per_event: float
    peak_memory_bytes: int
    lost: int = 0
    counted_twice: int = 0
    """Events that the daily sums lack or have too often, by what is on the topic up to the positions."""


@dataclass(frozen=True, slots=True)
class Entries:
    """What is on the topic: day and units of each entry of a stock item, in the order of its sequence."""

    of_items: dict[StockItem, list[tuple[date, int]]] = field(default_factory=dict)

    def noting(self, messages: Iterable[Message]) -> Iterator[Message]:
        """The same messages, each noted as it passes."""
        for message in messages:
            event = json.loads(message.value)
            entry = date.fromisoformat(event["timestamp"][:10]), event["quantityChange"]
            self.of_items.setdefault((event["sku"], event["warehouseId"]), []).append(entry)
            yield message

    async def differences(self, connection: asyncpg.Connection) -> tuple[int, int]:
        """Events that the daily sums of a program lack, and that they have too often: at least so many."""
        entries: Counter[tuple[str, str, date]] = Counter()
        units: Counter[tuple[str, str, date]] = Counter()
        for sku, warehouse_id, last in await connection.fetch(
            "SELECT sku, warehouse_id, last_sequence FROM stock_position"
        ):
            for day, change in self.of_items[sku, warehouse_id][:last]:
                entries[sku, warehouse_id, day] += 1
                units[sku, warehouse_id, day] += change
        lost = twice = 0
        for sku, warehouse_id, day, counted, net_units in await connection.fetch(
            """
            SELECT sku, warehouse_id, date, sum(entries)::bigint, sum(units_in - units_out)
              FROM daily_movement GROUP BY sku, warehouse_id, date
            """
        ):
            expected = entries.pop((sku, warehouse_id, day), 0)
            # Where the numbers agree and the units do not, one is there for another.
            exchanged = counted == expected and net_units != units[sku, warehouse_id, day]
            lost += max(expected - counted, 0) + exchanged
            twice += max(counted - expected, 0) + exchanged
        return lost + entries.total(), twice


@dataclass(frozen=True, slots=True)
class Stand:
    """The servers, the full topic, and how long a program may take."""

    servers: Servers
    broker: str
    kafka: KafkaSettings
    folder: Path
    template: str
    entries: Entries
    events: int
    seconds: float
    numbers: "count[int]"

    async def ours(self) -> Run:
        """The process of the pipeline, as deployed."""
        database = Database(self.servers, f"ours_{next(self.numbers)}")
        await self.servers.create_database(database.name, template=self.template)
        environment = pipeline_environment(database, self.kafka, self.folder)
        connection = await asyncpg.connect(database.superuser_url, server_settings={"search_path": "pipeline"})
        argv = [sys.executable, "-m", "services.pipeline", "stream"]
        try:
            run = await self._run(connection, argv, environment, folder=ROOT)
            assert run.lost == run.counted_twice == 0, f"the daily facts are not exact: {run}"
        finally:
            await connection.close()
            await self.servers.drop_database(database.name)
        return run

    async def peer(self, peer: Peer) -> Run:
        """A program of somebody else."""
        name = f"peer_{next(self.numbers)}"
        await self.servers.create_database(name)
        url = self.servers.postgres_url(name)
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(TABLES)
            environment = os.environ | {
                "BENCH_KAFKA": self.kafka.bootstrap_servers,
                "BENCH_TOPIC": self.kafka.topic(INVENTORY_EVENTS.name),
                "BENCH_GROUP": name,
                "BENCH_DATABASE_URL": url,
                "PYTHONPATH": str(ROOT),
            }
            return await self._run(connection, [str(python(peer)), *peer.argv], environment, folder=self.folder)
        finally:
            await connection.close()
            await self.servers.drop_database(name)

    async def bare_loop(self) -> Run:
        """Reading alone."""
        environment = os.environ | {
            "BENCH_KAFKA": self.kafka.bootstrap_servers,
            "BENCH_TOPIC": self.kafka.topic(INVENTORY_EVENTS.name),
        }
        process = await asyncio.create_subprocess_exec(
            str(python(BARE_LOOP)),
            *BARE_LOOP.argv,
            str(self.events),
            str(PARTITIONS),
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, "the bare loop failed; its output is above"
        figures = json.loads(output)
        return Run(figures["eventsPerSecond"], figures["cpuMicrosecondsPerEvent"], 0)

    async def _run(
        self, connection: asyncpg.Connection, argv: Sequence[str], environment: Mapping[str, str], folder: Path
    ) -> Run:
        """Run a program, and compare its sums with the topic once it has stopped."""
        async with running(argv, environment, folder) as worker:
            run = await self._watch(worker, connection)
        lost, counted_twice = await self.entries.differences(connection)
        return replace(run, lost=lost, counted_twice=counted_twice)

    async def _watch(self, worker: psutil.Process, connection: asyncpg.Connection) -> Run:
        """Wait for the first write, then until all is written or the time is up."""
        deadline = time.perf_counter() + START_SECONDS
        first = 0
        while not (first := await connection.fetchval(_APPLIED)):
            assert worker.is_running(), "the program ended; its output is above"
            assert time.perf_counter() < deadline, "nothing was written"
            await asyncio.sleep(LOOK_SECONDS)
        began, cpu = time.perf_counter(), cpu_seconds(worker)
        done, now = first, began
        while done < self.events and (now < began + self.seconds or done == first):
            assert now < began + START_SECONDS, "nothing was written after the first time"
            await asyncio.sleep(LOOK_SECONDS)
            done, now = await connection.fetchval(_APPLIED), time.perf_counter()
        assert done > first, f"all {done} events were written at once: too few to measure"
        counted = done - first
        used = cpu_seconds(worker) - cpu
        return Run(counted / (now - began), used / counted * 1e6, peak_memory_bytes(worker))


def python(peer: Peer) -> Path:
    """The interpreter of its environment."""
    return ENVIRONMENTS / peer.environment / "bin/python"


@asynccontextmanager
async def running(
    argv: Sequence[str], environment: Mapping[str, str], folder: Path = ROOT
) -> AsyncIterator[psutil.Process]:
    """A process, until the block ends; killed where it does not stop by itself."""
    process = await asyncio.create_subprocess_exec(*argv, env=dict(environment), cwd=folder)
    try:
        yield psutil.Process(process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def stand(messages: Iterable[Message], events: int, seconds: float) -> AsyncIterator[Stand]:
    """Servers with a full topic; Apache Kafka where it can be had, otherwise the embedded broker."""
    try:
        await fetch()
        broker = f"Apache Kafka {VERSION}"
    except Unavailable:
        broker = "embedded broker"
    with TemporaryDirectory(prefix="stockflow-bench-") as name:
        folder = Path(name)
        async with Servers(folder, broker="embedded" if broker == "embedded broker" else "apache") as servers:
            template = Database(servers, "template_ours")
            await servers.create_database(template.name)
            await migrate(template.superuser_url)
            kafka = KafkaSettings(bootstrap_servers=servers.kafka_bootstrap_servers, partitions=PARTITIONS)
            entries = Entries()
            await fill(kafka, entries.noting(messages))
            yield Stand(servers, broker, kafka, folder, template.name, entries, events, seconds, count())


async def measure(events: int, items: int, rounds: int, seconds: float) -> None:
    """Interleaved rounds of all programs; medians, and Stockflow's speed as a multiple of each, into the results."""
    runs: dict[str, list[Run]] = {name: [] for name in (OURS, LOOP, *PEERS)}
    async with stand(sales(events, items), events, seconds) as ready:
        for _ in range(rounds):
            runs[OURS].append(await ready.ours())
            runs[LOOP].append(await ready.bare_loop())
            for name, peer in PEERS.items():
                runs[name].append(await ready.peer(peer))
        where = f"{machine()}, {ready.broker}, {events:,} events, {items:,} stock items, {rounds} rounds"
    figures = [_figures(name, found) for name, found in runs.items()]
    for one in figures:
        print(json.dumps(one))
    promised = {LOOP: BARE_LOOP.promised} | {name: peer.promised for name, peer in PEERS.items()}
    promises = [_promise(name, runs[OURS], runs[name], times) for name, times in promised.items()]
    report.write("streaming_peers", where, figures, promises)


def _figures(name: str, runs: Sequence[Run]) -> dict[str, object]:
    return {
        "program": name,
        "eventsPerSecond": round(_speed(runs)),
        "cpuMicrosecondsPerEvent": round(median(run.cpu_microseconds_per_event for run in runs), 1),
        "peakMemoryMiB": round(max(run.peak_memory_bytes for run in runs) / 2**20) or None,
        "lost": sum(run.lost for run in runs),
        "countedTwice": sum(run.counted_twice for run in runs),
    }


def _promise(name: str, ours: Sequence[Run], peers: Sequence[Run], promised: float | None) -> report.Promise:
    what, unit = "stream of stock events into Postgres", "times the events/s of the peer"
    return report.Promise("P1", what, round(_speed(ours) / _speed(peers), 2), promised, unit, name)


def _speed(runs: Sequence[Run]) -> float:
    return median(run.events_per_second for run in runs)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming_peers", description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--items", type=int, default=1_000, help="stock items")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15, help="most time of a program in a round")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.events, arguments.items, arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
