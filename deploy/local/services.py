"""Every Stockflow process that the local stack runs, and the environment that each gets."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.ports import LOOPBACK
from deploy.local.supervisor import NotReady, Program

ROOT: Final = Path(__file__).parent.parent.parent
SERVICE_PORTS: Final = {"inventory": 8001, "reorder": 8002, "analytics": 8003, "pipeline": 8004}
"""The port of each service's REST API, where it is free."""
API: Final = "api"
CONSUMERS: Final = frozenset({"consume", "stream", "archive"})
"""The jobs that read topics."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a service: `python -m services.<service> <job>`."""

    service: str
    job: str
    replica: int = 1
    """Jobs that are not APIs may run several times."""

    @property
    def name(self) -> str:
        """What the process is called in the supervisor and in its log file: "pipeline-stream", "pipeline-stream-2"."""
        return f"{self.service}-{self.job}" + (f"-{self.replica}" if self.replica > 1 else "")


PROCESSES: Final = tuple(
    Process(service, job)
    for service, jobs in {
        "inventory": (API, "relay", "sweep"),
        "reorder": (API, "consume", "relay"),
        "pipeline": (API, "stream", "metrics", "archive", "batch", "schedule", "relay"),
        "analytics": (API, "consume"),
    }.items()
    for job in jobs
)


MAIL: Final = Process("pipeline", "mail")


def processes_for(environment: Mapping[str, str]) -> tuple[Process, ...]:
    """All processes; the one that sends mails only where SMTP_URL names a server."""
    return (*PROCESSES, MAIL) if environment.get("SMTP_URL") else PROCESSES


def program(process: Process, port: int, environment: Mapping[str, str], logs: Path) -> Program:
    """How to run a process: `port` is where its API listens, or a worker's ops server."""
    is_api = process.job == API
    address = {"HOST": LOOPBACK, "PORT" if is_api else "OPS_PORT": str(port)}
    # The embedded broker never forgets a dead member of a group: only a restart under the same name takes its place.
    membership = {"KAFKA_GROUP_INSTANCE_ID": process.name}
    return Program(
        name=process.name,
        argv=(sys.executable, "-m", f"services.{process.service}", process.job),
        log=logs / f"{process.name}.log",
        ready=answers(port, "/readyz" if is_api else "/healthz"),
        env={**membership, **environment, **address, "PYTHONUNBUFFERED": "1"},
        directory=ROOT,
    )


def answers(port: int, path: str) -> Callable[[], Awaitable[None]]:
    """A readiness check: GET path is answered with 200."""

    async def ready() -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n".encode())
            status_line = await reader.readline()
        finally:
            writer.close()
        if b" 200 " not in status_line:
            raise NotReady(f"{path} answered {status_line.decode().strip()!r}")

    return ready
