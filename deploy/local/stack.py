"""All of Stockflow on one machine: servers, schemas, topics, an API key, and every service process."""

import asyncio
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from aiokafka.errors import KafkaError

from deploy.local import record
from deploy.local.mongo_users import MONGO_USERS
from deploy.local.ports import LOOPBACK, free_ports, is_free
from deploy.local.secret_files import passwords, write_secret
from deploy.local.servers import Broker, Servers
from deploy.local.services import API, CONSUMERS, PROCESSES, ROOT, SERVICE_PORTS, Process, program
from deploy.local.supervisor import Program, StartFailed
from libs.chassis.auth import ALL_SCOPES, file_entry, new_key
from libs.events.settings import KafkaSettings
from libs.events.topics import ensure_topics
from migrations.roles import OWNER, RUNTIME_ROLES

DATABASE: Final = "stockflow"
_ROLES: Final = tuple(role.removeprefix("stockflow_") for role in (OWNER, *RUNTIME_ROLES))
_EMBEDDED_BROKER: Final = {"KAFKA_FETCH_PAUSE_MS": "50"}
"""It answers an empty fetch at once, and an idle consumer would keep asking."""
_LAPTOP: Final = {
    "KAFKA_SESSION_TIMEOUT_MS": "6000",
    "KAFKA_ON_TOPIC_RECREATED": "restart",
    "ARCHIVE_FLUSH_SECONDS": "5",
}
"""The lake is seldom far behind, and a dead worker is noticed soon. A broker that lost its tail, as this one does when
killed, is read from the start."""
_STOP_SECONDS: Final = 60.0

Ports = Literal["default", "auto"]


class AlreadyRunning(Exception):
    """Another stack works in the same directory."""


class Stack:
    """The running stack: started with the block and stopped with it.

    Data, logs and secrets live under `directory` and are found again by the next stack there, unless it is `fresh`.
    The addresses are in `env`, and while the stack runs in `env_file`, `stack.env` in the directory unless told
    otherwise. `program` says how a process of Stockflow is run, from this very code unless told otherwise.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ports: Ports = "default",
        fresh: bool = False,
        env_file: Path | None = None,
        processes: Sequence[Process] = PROCESSES,
        program: Callable[[Process, int, Mapping[str, str], Path], Program] = program,
        environment: Mapping[str, str] | None = None,
        broker: Broker = "embedded",
        broker_nodes: int = 1,
    ) -> None:
        self.directory = directory.resolve()
        self.env_file = (env_file or directory / "stack.env").resolve()
        """The addresses and the admin key as shell variables; readable by the owner only."""
        self.env: dict[str, str] = {}
        self._ports = ports
        self._fresh = fresh
        self._processes = processes
        self._program = program
        self._environment = (_EMBEDDED_BROKER if broker == "embedded" else {}) | dict(environment or {})
        self._servers = Servers(
            self.directory, on_restart=self._after_restart, broker=broker, broker_nodes=broker_nodes
        )
        self._replication_factor = broker_nodes
        self._broker_forgets = broker == "embedded"
        self._passwords: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._take_over_directory)
        self._passwords = passwords(self.directory / "role-passwords.json", _ROLES)
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    async def kill(self, name: str) -> None:
        """Crash a process or a server with SIGKILL ("pipeline-stream", "kafka"); it is started again."""
        self._servers.supervisor.kill(name)

    async def restart(self, name: str) -> None:
        """Stop a process or a server cleanly and start it again."""
        await self._servers.supervisor.restart(name)

    @property
    def restarts(self) -> dict[str, int]:
        """How often each process and server was started again after a crash."""
        return self._servers.supervisor.restarts

    @property
    def exit_codes(self) -> dict[str, list[int]]:
        """How the crashes of each process and server ended: exit codes, -9 after a SIGKILL."""
        return self._servers.supervisor.exit_codes

    @property
    def broker_names(self) -> list[str]:
        """The broker among the servers: "kafka", or one name for each node of a cluster."""
        return self._servers.broker_names

    @property
    def pids(self) -> dict[str, int | None]:
        """The process id of each process and server, None while it is down."""
        return self._servers.supervisor.pids

    @property
    def is_ready(self) -> bool:
        """Whether every process and server runs and answers."""
        return self._servers.supervisor.are_ready

    @property
    def record_file(self) -> Path:
        """Which processes belong to this stack."""
        return self.directory / "processes.json"

    async def _start(self) -> None:
        await self._servers.__aenter__()
        self._record()
        await self._servers.create_database(DATABASE)
        async with asyncio.TaskGroup() as preparation:
            preparation.create_task(self._migrate())
            preparation.create_task(ensure_topics(self._kafka))
        self._name_addresses()
        await self._start_processes()
        self._record()
        write_secret(self.env_file, self._env_text)

    async def _stop(self) -> None:
        if self.env_file.exists() and self.env_file.read_text() == self._env_text:
            self.env_file.unlink()
        supervisor = self._servers.supervisor
        try:
            await supervisor.stop([process.name for process in self._processes if process.name in supervisor.pids])
        finally:
            await self._servers.__aexit__(None, None, None)
        self.record_file.unlink(missing_ok=True)

    @property
    def _env_text(self) -> str:
        return "".join(f"{name}={shlex.quote(value)}\n" for name, value in self.env.items())

    def _take_over_directory(self) -> None:
        """Make sure that nobody works there, also nobody who is still stopping; begin empty if that is asked."""
        if (supervisor := record.running_supervisor(self.record_file)) is not None:
            raise AlreadyRunning(f"process {supervisor.pid} runs a stack in {self.directory}")
        if survivors := record.wait_until_gone(self.record_file, seconds=_STOP_SECONDS):
            raise AlreadyRunning(f"left of an earlier stack in {self.directory}: {', '.join(survivors)}")
        if self._fresh and self.directory.exists():
            shutil.rmtree(self.directory)
        self.directory.mkdir(parents=True, exist_ok=True)

    async def _migrate(self) -> None:
        environment = {f"DATABASE_PASSWORD_{role.upper()}": self._passwords[role] for role in _ROLES}
        environment["MIGRATIONS_DATABASE_URL"] = self._servers.postgres_url(DATABASE)
        await self._run(["-m", "migrations"], environment, "migrations")

    def _name_addresses(self) -> None:
        self.env = {
            **{
                f"{service.upper()}_URL": f"http://{LOOPBACK}:{port}" for service, port in self._service_ports().items()
            },
            "API_KEY": self._admin_key(),
            "API_KEYS_FILE": str(self.directory / "api-keys.json"),
            "DATABASE_URL": self._servers.postgres_url(DATABASE),
            **{f"DATABASE_URL_{role.upper()}": self._role_url(role) for role in _ROLES},
            "KAFKA_BOOTSTRAP_SERVERS": self._servers.kafka_bootstrap_servers,
            "MONGO_URL": self._servers.mongo_url(),
            "REDIS_URL": self._servers.redis_url(),
            "LAKE_URL": str(self.directory / "lake"),
        }

    def _service_ports(self) -> dict[str, int]:
        """The port of each service's API: the usual ones, or all others if one of them is taken."""
        if self._ports == "default" and all(is_free(port) for port in SERVICE_PORTS.values()):
            return dict(SERVICE_PORTS)
        return dict(zip(SERVICE_PORTS, free_ports(len(SERVICE_PORTS)), strict=True))

    def _admin_key(self) -> str:
        """The key that may do everything; made once, and kept readable by the owner only."""
        file = self.directory / "admin-key.txt"
        if not file.exists():
            token, key = new_key("admin", [ALL_SCOPES])
            write_secret(self.directory / "api-keys.json", json.dumps([file_entry(key)], indent=2))
            write_secret(file, token)
        return file.read_text()

    def _role_url(self, role: str) -> str:
        return self._servers.postgres_url(DATABASE, role=f"stockflow_{role}", password=self._passwords[role])

    async def _start_processes(self) -> None:
        ops_ports = free_ports(len(self._processes))
        programs = [
            self._program(
                process, self._port(process, ops_port), self._process_environment(process), self.directory / "logs"
            )
            for process, ops_port in zip(self._processes, ops_ports, strict=True)
        ]
        await self._servers.supervisor.start(*programs)

    def _port(self, process: Process, ops_port: int) -> int:
        if process.job != API:
            return ops_port
        return int(self.env[f"{process.service.upper()}_URL"].rpartition(":")[2])

    def _process_environment(self, process: Process) -> dict[str, str]:
        """What a process is told: addresses, its own role's database, and never another's secrets."""
        shared = {
            name: value
            for name, value in self.env.items()
            if name not in ("API_KEY", "MONGO_URL") and not name.startswith("DATABASE_URL")
        }
        own = {"DATABASE_URL": self._role_url(process.service)}
        if (process.service, process.job) == ("pipeline", "batch"):
            own["BATCH_DATABASE_URL"] = self._role_url("batch")
        if process.service in MONGO_USERS:
            own["MONGO_URL"] = self._servers.mongo_url(user=process.service)
        return {"LOG_FORMAT": "json", **_LAPTOP, **shared, **own, **self._environment}

    async def _after_restart(self, name: str) -> None:
        """Put right what a crash took along. The embedded broker forgets what it had not saved, be it whole topics."""
        self._record()
        if name == "kafka" and self._broker_forgets:
            try:
                await ensure_topics(self._kafka)
            except KafkaError as error:
                raise StartFailed(f"kafka lost its topics and cannot create them: {error!r}") from error
            await self._republish()

    async def _republish(self) -> None:
        """Have every event published again that the broker may have lost; consumers drop what they know.

        Before, every consumer starts again: it is when it claims its partitions that it notices what was lost.
        """
        for process in self._processes:
            if process.job in CONSUMERS:
                await self._servers.supervisor.restart(process.name)
        for service, arguments in (("inventory", ["--all"]), ("reorder", []), ("pipeline", [])):
            environment = self._process_environment(Process(service, API))
            await self._run(["-m", f"services.{service}", "republish", *arguments], environment, f"{service}-republish")

    async def _run(self, arguments: Sequence[str], environment: Mapping[str, str], name: str) -> None:
        """Run a Python command to its end, with its output in a log file."""
        log = self.directory / "logs" / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
            )
            if await process.wait() != 0:
                raise StartFailed(f"{name} failed, see {log}:\n{log.read_text()[-2000:]}")

    @property
    def _kafka(self) -> KafkaSettings:
        return KafkaSettings(
            bootstrap_servers=self._servers.kafka_bootstrap_servers, replication_factor=self._replication_factor
        )

    def _record(self) -> None:
        record.write(self.record_file, self.pids, self.restarts)
