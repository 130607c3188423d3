"""Reads of stock levels over REST, beside FastAPI with a response model and asyncpg on the same tables (P9).

`python -m benchmarks.stock_reads` writes `benchmarks/results/stock_reads.json`.
"""

import argparse
import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from statistics import median

from benchmarks import report
from benchmarks.http_load import get_repeatedly
from benchmarks.inventory_writes import ITEMS, Stand, stand
from benchmarks.machine import machine
from benchmarks.streaming_peers import running
from deploy.local.ports import free_ports
from libs.chassis.paging import MAX_LIMIT

PEER = "FastAPI with a response model and asyncpg"
PROMISED = 3.0
CONNECTIONS = 64
READS: dict[str, Callable[[], str]] = {
    "one stock level": lambda: f"/stock-levels/W/SKU-{random.randint(1, ITEMS)}",
    f"page of {MAX_LIMIT}": lambda: f"/stock-levels?limit={MAX_LIMIT}",
}


async def measure(rounds: int, seconds: float) -> None:
    """Medians of interleaved rounds, each program alone, into the results."""
    figures: dict[str, tuple[list[float], list[float]]] = {read: ([], []) for read in READS}
    async with stand() as ours:
        for _ in range(rounds):
            for read, (of_ours, _) in figures.items():
                of_ours.append(await reads_per_second(ours.api_url, ours.token, READS[read], seconds))
            async with _peer(ours) as url:
                for read, (_, of_peer) in figures.items():
                    of_peer.append(await reads_per_second(url, "", READS[read], seconds))
    medians = {read: (median(of_ours), median(of_peer)) for read, (of_ours, of_peer) in figures.items()}
    unit = "times the reads/s of the peer"
    report.write(
        "stock_reads",
        f"{machine()}, {CONNECTIONS} connections, {rounds} rounds",
        [
            {"read": read, "readsPerSecond": round(of_ours), "peerReadsPerSecond": round(of_peer)}
            for read, (of_ours, of_peer) in medians.items()
        ],
        [
            report.Promise("P9", f"{read}, fresh from Postgres", round(of_ours / of_peer, 2), PROMISED, unit, PEER)
            for read, (of_ours, of_peer) in medians.items()
        ],
    )


async def reads_per_second(url: str, token: str, path: Callable[[], str], seconds: float) -> float:
    """Answers per second over all connections, each asking for path after path. Every one must be 200."""
    load = await get_repeatedly(url, path, token=token, connections=CONNECTIONS, seconds=seconds)
    assert set(load.statuses) == {200}, f"unexpected answers: {load.statuses}"
    return load.per_second(200)


@asynccontextmanager
async def _peer(ours: Stand) -> AsyncIterator[str]:
    """The other program on the same tables: its address."""
    [port] = free_ports(1)
    environment = os.environ | {"BENCH_DATABASE_URL": ours.database.owner_url}
    async with running([sys.executable, "-m", "benchmarks.peers.response_model_api", str(port)], environment):
        url = f"http://127.0.0.1:{port}"
        while True:
            try:
                await get_repeatedly(url, READS["one stock level"], token="", connections=1, seconds=0.1)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                yield url
                return


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stock_reads", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement in a round")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
