"""The trouble: who is killed, frozen, restarted or emptied, and when."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import redis.asyncio as redis

from deploy.local.services import CONSUMERS
from deploy.local.stack import Stack
from deploy.local.supervisor import Supervisor
from tools.chaos.scale import Scale

CONTROL: Final = ("control-1", "control-2")
CONTROL_FAILPOINTS: Final = ("naive.upserted",)
FLUSH_TRIES: Final = 30
_PATIENCE_SECONDS: Final = 60.0


class Kind(StrEnum):
    """What happens to a process or a server."""

    KILL = "SIGKILL"
    FREEZE = "SIGSTOP"
    RESTART = "clean restart"
    FLUSH = "FLUSHALL"


@dataclass(frozen=True, slots=True, order=True)
class Blow:
    """One piece of trouble, at a fraction of the run."""

    at: float
    kind: Kind
    target: str


def plan(choice: random.Random, scale: Scale, brokers: Sequence[str], *, broker_is_durable: bool) -> list[Blow]:
    """All blows of a run in order of time.

    Every process gets its share of the kills, Postgres and Redis too. Consumers are also frozen, consumers and servers
    restarted, and Redis is emptied. The broker is touched only where it keeps what it has acknowledged: the embedded
    one loses some of it under load, even when it is stopped cleanly.
    """
    processes = [process.name for process in scale.processes]
    consumers = [process.name for process in scale.processes if process.job in CONSUMERS]
    servers = ["postgres", "valkey", *(brokers if broker_is_durable else ())] * scale.server_rounds
    victims: list[str] = [*servers]
    while len(victims) < scale.kills:
        victims += choice.sample(processes, min(len(processes), scale.kills - len(victims)))
    blows = [(Kind.KILL, victim) for victim in choice.sample(victims, len(victims))]
    blows += [(Kind.RESTART, name) for name in (*servers, *consumers)]
    blows += [(Kind.FLUSH, "valkey")] * 3
    step = 1 / (len(blows) + 1)
    spread = [
        Blow((number + choice.random()) * step, kind, target)
        for number, (kind, target) in enumerate(choice.sample(blows, len(blows)), start=1)
    ]
    frozen = [Blow(0.05 + 0.6 * at / len(scale.frozen), Kind.FREEZE, name) for at, name in enumerate(scale.frozen)]
    controls = [Blow(0.05 + 0.9 * choice.random(), Kind.KILL, choice.choice(CONTROL)) for _ in range(scale.kills // 4)]
    return sorted([*spread, *frozen, *controls])


@dataclass(slots=True)
class Trouble:
    """Deals the blows to a running stack and its control."""

    stack: Stack
    control: Supervisor
    scale: Scale
    dealt: Counter[tuple[Kind, str]] = field(default_factory=Counter)
    missed: list[Blow] = field(default_factory=list)
    """Blows whose target did not come up in time."""
    _frozen: set[str] = field(default_factory=set)

    async def run(self, blows: Sequence[Blow]) -> None:
        """Deal all blows at their time; returns when nothing is frozen any more."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as thaws:
            for blow in blows:
                await asyncio.sleep(max(0.0, began + blow.at * self.scale.seconds - time.monotonic()))
                if blow.kind is Kind.FREEZE:
                    thaws.create_task(self._freeze(blow))
                else:
                    await self._deal(blow)

    async def _deal(self, blow: Blow) -> None:
        if blow.target in self._frozen:
            await self._until(lambda: blow.target not in self._frozen)
        match blow.kind:
            case Kind.KILL:
                await self._kill(blow)
            case Kind.RESTART:
                await self.stack.restart(blow.target)
                self.dealt[blow.kind, blow.target] += 1
            case Kind.FLUSH:
                await self._flush(blow)

    async def _kill(self, blow: Blow) -> None:
        target = blow.target
        if await self._until(lambda: self._pid(target) is not None):
            if target in CONTROL:
                self.control.kill(target)
            else:
                await self.stack.kill(target)
            self.dealt[Kind.KILL, target] += 1
        else:
            self.missed.append(blow)

    async def _freeze(self, blow: Blow) -> None:
        """Make a zombie: stop a process for longer than its group waits for it, then let it go on."""
        target = blow.target
        if not await self._until(lambda: self._pid(target) is not None):
            self.missed.append(blow)
            return
        pid = self._pid(target)
        assert pid is not None
        self._frozen.add(target)
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.scale.frozen_seconds)
        finally:
            if self._pid(target) == pid:
                os.kill(pid, signal.SIGCONT)
                self.dealt[Kind.FREEZE, target] += 1
            self._frozen.discard(target)

    async def _flush(self, blow: Blow) -> None:
        async with redis.from_url(self.stack.env["REDIS_URL"], socket_timeout=5) as client:
            for _ in range(FLUSH_TRIES):
                with suppress(redis.RedisError):
                    await client.flushall()
                    self.dealt[Kind.FLUSH, "valkey"] += 1
                    return
                await asyncio.sleep(1.0)
        self.missed.append(blow)

    def _pid(self, target: str) -> int | None:
        return (self.control.pids if target in CONTROL else self.stack.pids).get(target)

    async def _until(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if condition():
                return True
            await asyncio.sleep(0.1)
        return False
