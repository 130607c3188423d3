"""Apache Kafka itself, in KRaft mode, for proofs that need a broker whose data survives SIGKILL.

Maven fetches the jars once into `.local`; Java 17 runs them. Each node is broker and controller.
"""

import asyncio
import base64
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.supervisor import NotReady, Program

VERSION: Final = "4.1.1"
_LIBRARIES: Final = Path(__file__).parent.parent.parent / ".local" / f"apache-kafka-{VERSION}"
_DEPENDENCY_PLUGIN: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
_POM: Final = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>stockflow</groupId>
  <artifactId>apache-kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>2.24.3</version>
    </dependency>
  </dependencies>
</project>
"""
_JAVA_OPTIONS: Final = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN")
_FETCH_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 30.0


class Unavailable(Exception):
    """Apache Kafka cannot be had on this machine; the text says why."""


async def fetch() -> Path:
    """The folder with Kafka's jars, fetched with Maven unless it is there. Raises Unavailable."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise Unavailable(f"Apache Kafka needs {program}, which is not installed")
    if not _LIBRARIES.exists():
        draft = _LIBRARIES.with_name(f"{_LIBRARIES.name}.{uuid4().hex}")
        draft.mkdir(parents=True)
        try:
            await _copy_dependencies(draft)
            draft.replace(_LIBRARIES)
        except OSError:
            if not _LIBRARIES.exists():  # Unless somebody else was faster.
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return _LIBRARIES


async def _copy_dependencies(folder: Path) -> None:
    pom = folder / "pom.xml"
    pom.write_text(_POM)
    await _run(
        *("mvn", "--batch-mode", "--quiet", "--file", str(pom), f"{_DEPENDENCY_PLUGIN}:copy-dependencies"),
        *("-DincludeScope=runtime", f"-DoutputDirectory={folder}"),
    )


@dataclass(frozen=True, slots=True)
class Node:
    """One process of the cluster."""

    number: int
    port: int
    controller_port: int


@dataclass(frozen=True, slots=True)
class Secured:
    """A second listener of a single node, for clients that encrypt or log in."""

    port: int
    protocol: str
    """SSL or SASL_SSL."""
    settings: Mapping[str, object]
    """Of the node, certificates and logins included; the listener is called SECURED."""
    scram_users: Sequence[str] = ()
    """As kafka-storage takes them: "SCRAM-SHA-512=[name=alice,password=secret]"."""


class ApacheKafka:
    """A cluster of one or three nodes with its data under `directory`, on free ports."""

    def __init__(self, directory: Path, logs: Path, *, nodes: int = 1, secured: Secured | None = None) -> None:
        self._directory = directory
        self._logs = logs
        self._secured = secured
        ports = free_ports(2 * nodes)
        self._nodes = [Node(number, ports[2 * number - 2], ports[2 * number - 1]) for number in range(1, nodes + 1)]

    @property
    def bootstrap_servers(self) -> str:
        """Addresses of all nodes."""
        return ",".join(f"{LOOPBACK}:{node.port}" for node in self._nodes)

    @property
    def names(self) -> list[str]:
        """What the nodes are called in the supervisor: "kafka", or "kafka-1" and so on."""
        return [self._name(node) for node in self._nodes]

    async def programs(self) -> list[Program]:
        """The nodes as programs; fetches the jars and formats the storage where needed. Raises Unavailable."""
        libraries = await fetch()
        self._directory.mkdir(parents=True, exist_ok=True)
        await asyncio.gather(*(self._prepare(node, libraries) for node in self._nodes))
        return [self._program(node, libraries) for node in self._nodes]

    async def _prepare(self, node: Node, libraries: Path) -> None:
        self._configuration(node).write_text(
            "".join(f"{name}={value}\n" for name, value in self._settings(node).items())
        )
        if not (self._data(node) / "meta.properties").exists():
            tool = (*_java(libraries), "kafka.tools.StorageTool", "format", f"--cluster-id={self._cluster_id()}")
            users = (
                [part for user in self._secured.scram_users for part in ("--add-scram", user)] if self._secured else []
            )
            await _run(*tool, "--config", str(self._configuration(node)), *users)

    def _settings(self, node: Node) -> dict[str, object]:
        copies = min(3, len(self._nodes))
        listeners = {"PLAINTEXT": ("PLAINTEXT", node.port), "CONTROLLER": ("PLAINTEXT", node.controller_port)}
        if self._secured:
            listeners["SECURED"] = (self._secured.protocol, self._secured.port)
        return {
            "process.roles": "broker,controller",
            "node.id": node.number,
            "controller.quorum.voters": ",".join(
                f"{each.number}@{LOOPBACK}:{each.controller_port}" for each in self._nodes
            ),
            "listeners": ",".join(f"{name}://{LOOPBACK}:{port}" for name, (_, port) in listeners.items()),
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, (protocol, _) in listeners.items()
            ),
            "log.dirs": self._data(node),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": max(1, copies - 1),
            "min.insync.replicas": max(1, copies - 1),
            "message.max.bytes": 8 * 1024 * 1024,
            "broker.session.timeout.ms": 6000,
            **(self._secured.settings if self._secured else {}),
        }

    def _program(self, node: Node, libraries: Path) -> Program:
        name = self._name(node)
        return Program(
            name=name,
            argv=(*_java(libraries), "kafka.Kafka", str(self._configuration(node))),
            log=self._logs / f"{name}.log",
            ready=self._answers(node),
            directory=self._directory,
            stop_seconds=_STOP_SECONDS,
        )

    def _answers(self, node: Node) -> Callable[[], Awaitable[None]]:
        async def ready() -> None:
            # A plain connection first: aiokafka logs an error for each one that is refused.
            _, writer = await asyncio.open_connection(LOOPBACK, node.port)
            writer.close()
            admin = AIOKafkaAdminClient(bootstrap_servers=f"{LOOPBACK}:{node.port}", request_timeout_ms=5_000)
            try:
                await admin.start()
                cluster = await admin.describe_cluster()
            except KafkaError as error:
                raise NotReady(f"node {node.number}: {error!r}") from error
            finally:
                await admin.close()
            if node.number not in {broker["node_id"] for broker in cluster["brokers"]}:
                raise NotReady(f"node {node.number} is not in the cluster yet")

        return ready

    def _name(self, node: Node) -> str:
        return "kafka" if len(self._nodes) == 1 else f"kafka-{node.number}"

    def _data(self, node: Node) -> Path:
        return self._directory / f"data-{node.number}"

    def _configuration(self, node: Node) -> Path:
        return self._directory / f"server-{node.number}.properties"

    def _cluster_id(self) -> str:
        """The id that all nodes share, made once: a UUID in URL-safe base64, as Kafka wants it."""
        file = self._directory / "cluster-id"
        if not file.exists():
            file.write_text(base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("="))
        return file.read_text()


def _java(libraries: Path) -> Sequence[str]:
    return ("java", *_JAVA_OPTIONS, "-cp", f"{libraries}/*")


async def _run(*argv: str) -> None:
    """Run a program to its end. Raises Unavailable with its output unless it succeeds."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _FETCH_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise Unavailable(f"{argv[0]} took more than {_FETCH_SECONDS:.0f} s") from None
    if process.returncode != 0:
        raise Unavailable(f"{argv[0]} failed:\n{output.decode(errors='replace')[-2000:]}")
