"""One run: load and trouble at the same time, then quiet, then every invariant."""

import asyncio
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from deploy.local.servers import Broker
from deploy.local.services import ROOT
from deploy.local.stack import Stack
from deploy.local.supervisor import Program, Supervisor
from libs.events import failpoints
from tools.chaos import client, invariants, naive, oracle, quiescence, trouble
from tools.chaos.client import Load, Posted
from tools.chaos.documents import catalogue, documents, opening_documents, policies, thresholds
from tools.chaos.injection import KINDS, Injector
from tools.chaos.invariants import Finding, Topics
from tools.chaos.report import Result
from tools.chaos.scale import Scale
from tools.chaos.stores import Stores
from tools.chaos.trouble import CONTROL, Trouble
from tools.replay.api import Api, connected
from tools.replay.progress import Progress

SESSION_TIMEOUT_MS = 6_000
PATIENCE_SECONDS = 120.0
INJECTIONS_OF_A_KIND = 12


async def run(scale: Scale, *, seed: int, broker: Broker, directory: Path, progress: Progress) -> Result:
    """Run load and trouble of this scale in a fresh stack under `directory`."""
    environment = {
        "STOCKFLOW_FAILPOINTS": ",".join(f"{name}={probability}" for name, probability in scale.failpoints.items()),
        "KAFKA_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
        "METRICS_CLOCK": "event",
        "METRICS_INTERVAL_SECONDS": "1",
        "ARCHIVE_FLUSH_SECONDS": "2",
    }
    stack = Stack(
        directory / "stack",
        ports="auto",
        fresh=True,
        processes=scale.processes,
        environment=environment,
        broker=broker,
    )
    progress.stage("Starting servers and services", 1)
    async with stack, Supervisor() as control, Stores.opened(stack.env) as stores:
        await _start_control(stack, control, environment)
        return await _Run(scale, seed, broker, stack, control, stores, progress).result()


class _Run:
    def __init__(
        self,
        scale: Scale,
        seed: int,
        broker: Broker,
        stack: Stack,
        control: Supervisor,
        stores: Stores,
        progress: Progress,
    ) -> None:
        self._scale, self._seed, self._broker = scale, seed, broker
        self._stack, self._control, self._stores, self._progress = stack, control, stores, progress
        self._trouble = Trouble(stack, control, scale)
        self._items = catalogue(scale.skus, scale.warehouses)

    async def result(self) -> Result:
        began = time.monotonic()
        posted = await self._load()
        load_seconds = time.monotonic() - began
        began = time.monotonic()
        self._progress.stage("Waiting for quiet", 0)
        is_quiet = await quiescence.until_quiet(
            self._stack, self._stores, self._progress.advance, patience_seconds=PATIENCE_SECONDS
        )
        quiet_after = time.monotonic() - began if is_quiet else None
        self._progress.stage("Checking", 1)
        ordered = [*policies(self._items), *thresholds(self._items)]
        expected = oracle.oracle(posted.acknowledged.values(), ordered)
        topics = await Topics.read(self._stores)
        findings = [_answers(posted), *await invariants.check(self._stores, expected, topics)]
        return Result(
            broker=self._broker,
            seed=self._seed,
            load_seconds=load_seconds,
            documents=len(posted.acknowledged),
            events=sum(document.events for document in posted.acknowledged.values()),
            refused=posted.refused,
            repeated_documents=posted.repeats,
            records=sum(len(records) for records in topics.records.values()),
            injected=dict(topics.injected()),
            trouble=_by_kind(self._trouble),
            missed=[str(blow) for blow in self._trouble.missed],
            failpoint_kills=self._failpoint_kills(),
            exits={name: codes for name, codes in self._exits().items() if codes},
            quiet_after_seconds=quiet_after,
            findings=findings,
            control=invariants.control(expected, await self._stores.control()),
        )

    async def _load(self) -> Posted:
        """Post documents while trouble is made; returns when both are over."""
        choice = random.Random(self._seed)
        now = datetime.now(UTC)
        blows = trouble.plan(
            random.Random(self._seed + 1),
            self._scale,
            self._stack.broker_names,
            broker_is_durable=self._broker == "apache",
        )
        env = self._stack.env
        async with connected(
            env["INVENTORY_URL"], env["REORDER_URL"], env["API_KEY"], connections=client.CONNECTIONS
        ) as api:
            load = Load(api, documents(choice, self._items, now), choice, events=self._scale.events)
            await self._fill_shelves(api, load, choice, now)
            self._progress.stage(f"Events, and {len(blows)} blows", self._scale.events)
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._inject(stop))
                both = asyncio.gather(load.run(self._scale.seconds, self._progress.advance), self._trouble.run(blows))
                await both
                stop.set()
        return load.posted

    async def _fill_shelves(self, api: Api, load: Load, choice: random.Random, now: datetime) -> None:
        await client.create(api, self._items)
        for batch in client.batches(opening_documents(choice, self._items, now), client.MOST_DOCUMENTS):
            await load.post(batch)

    async def _inject(self, stop: asyncio.Event) -> None:
        injector = Injector(
            kafka=self._stores.kafka,
            database_url=self._stack.env["DATABASE_URL"],
            items=self._items,
            choice=random.Random(self._seed + 2),
            pause_seconds=self._scale.seconds / (INJECTIONS_OF_A_KIND * len(KINDS)),
        )
        await injector.run(stop)

    def _failpoint_kills(self) -> dict[str, int]:
        """How many processes died at each planned failpoint, as their logs tell."""
        kills = dict.fromkeys(self._scale.failpoints, 0)
        for log in (self._stack.directory / "logs").glob("*.log"):
            for line in log.read_text(errors="replace").splitlines():
                _, traced, name = line.partition(failpoints.TRACE)
                if traced:
                    kills[name] += 1
        return kills

    def _exits(self) -> dict[str, list[int]]:
        return {name: [code for code in codes if code != -9] for name, codes in self._stack.exit_codes.items()}


def _answers(posted: Posted) -> Finding:
    """No request gets an answer that the contract does not foresee, whatever is being killed."""
    return Finding(
        "every request is answered as the contract says",
        len(posted.acknowledged) + posted.refused + posted.repeats,
        len(posted.unexpected),
        tuple(posted.unexpected[: invariants.MOST_EXAMPLES]),
    )


def _by_kind(dealt: Trouble) -> Mapping[str, Mapping[str, int]]:
    told: dict[str, dict[str, int]] = defaultdict(dict)
    for (kind, target), times in dealt.dealt.items():
        told[kind.value][target] = times
    return dict(told)


async def _start_control(stack: Stack, control: Supervisor, environment: Mapping[str, str]) -> None:
    """Start the naive workers on the same topic, in the same database."""
    connection = await asyncpg.connect(stack.env["DATABASE_URL"])
    try:
        await connection.execute(naive.CREATE)
    finally:
        await connection.close()
    await control.start(*_control_programs(stack, environment))


def _control_programs(stack: Stack, environment: Mapping[str, str]) -> Iterator[Program]:
    for name in CONTROL:
        yield Program(
            name=name,
            argv=(sys.executable, "-m", "tools.chaos.naive"),
            log=stack.directory / "logs" / f"{name}.log",
            env={**stack.env, **environment, "KAFKA_GROUP_INSTANCE_ID": name},
            directory=ROOT,
        )
