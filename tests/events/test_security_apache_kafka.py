"""Every way of logging in, driven against Apache Kafka itself: certificates, passwords, and tokens that run out."""

import asyncio
import json
import shutil
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka.errors import KafkaConnectionError
from pydantic import SecretStr

from deploy.local.apache_kafka import ApacheKafka, Secured, Unavailable
from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.supervisor import Supervisor
from libs.events.settings import KafkaSettings
from libs.events.topics import ensure_topics
from tests.events.conftest import Worker, applied, send, sending, until_applied
from tests.factories import an_inventory_update

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

JAAS = "org.apache.kafka.common.security"
TOKEN_SECONDS = 6
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: an authority, a broker and a client that it vouches for, and an authority that nobody trusts."""

    folder: Path

    @classmethod
    async def made(cls, folder: Path) -> "Certificates":
        """Fresh ones, by OpenSSL; skips where it is missing."""
        if shutil.which("openssl") is None:
            pytest.skip("NO TLS AGAINST APACHE KAFKA: openssl is not installed")
        for authority in ("authority", "stranger"):
            await _openssl(folder, authority, "-addext", "basicConstraints=critical,CA:true")
        for name, usage in (("broker", "serverAuth"), ("client", "clientAuth")):
            signed = ("-CA", "authority.pem", "-CAkey", "authority.key", "-addext", "basicConstraints=CA:false")
            names = ("-addext", f"subjectAltName=IP:{LOOPBACK}", "-addext", f"extendedKeyUsage={usage}")
            await _openssl(folder, name, *signed, *names)
        both = (folder / "broker.key").read_text() + (folder / "broker.pem").read_text()
        (folder / "broker-key-and-certificate.pem").write_text(both)
        return cls(folder)

    @property
    def broker_settings(self) -> dict[str, object]:
        """What the broker shows, and whom it trusts."""
        return {
            "listener.name.secured.ssl.keystore.type": "PEM",
            "listener.name.secured.ssl.keystore.location": self.folder / "broker-key-and-certificate.pem",
            "listener.name.secured.ssl.truststore.type": "PEM",
            "listener.name.secured.ssl.truststore.location": self.folder / "authority.pem",
        }


async def _openssl(folder: Path, name: str, *options: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
        *("-keyout", f"{name}.key", "-out", f"{name}.pem", *options),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


class TokenServer:
    """Grants unsigned tokens that live for TOKEN_SECONDS, which the broker's development validator accepts."""

    def __init__(self) -> None:
        self.granted = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request for a token."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        self.granted += 1
        now = time.time()
        parts = ({"alg": "none"}, {"sub": "stockflow", "iat": now, "exp": now + TOKEN_SECONDS})
        token = ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."
        body = json.dumps({"access_token": token, "expires_in": TOKEN_SECONDS})
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()


@pytest.fixture(scope="module")
async def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return await Certificates.made(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def broker(folder: Path, secured: Secured) -> AsyncIterator[None]:
    """One node with a secured listener; skips where Apache Kafka cannot be had."""
    apache = ApacheKafka(folder / "kafka", folder / "logs", secured=secured)
    try:
        programs = await apache.programs()
    except Unavailable as reason:
        pytest.skip(f"NO APACHE KAFKA: {reason}")
    async with Supervisor() as nodes:
        await nodes.start(*programs)
        yield


@pytest.fixture(scope="module")
async def login_port(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    """The port of a SASL_SSL listener that takes every mechanism."""
    [port] = free_ports(1)
    secured = Secured(
        port,
        "SASL_SSL",
        {
            **certificates.broker_settings,
            "listener.name.secured.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "listener.name.secured.plain.sasl.jaas.config": (
                f'{JAAS}.plain.PlainLoginModule required user_alice="plain-secret";'
            ),
            "listener.name.secured.scram-sha-256.sasl.jaas.config": f"{JAAS}.scram.ScramLoginModule required;",
            "listener.name.secured.scram-sha-512.sasl.jaas.config": f"{JAAS}.scram.ScramLoginModule required;",
            "listener.name.secured.oauthbearer.sasl.jaas.config": (
                f'{JAAS}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
            ),
            # The broker ends a connection whose token has run out.
            "listener.name.secured.oauthbearer.connections.max.reauth.ms": 1000 * TOKEN_SECONDS,
        },
        scram_users=[
            f"SCRAM-SHA-{bits}=[name=alice,password=scram-{bits}-secret,iterations=4096]" for bits in (256, 512)
        ],
    )
    async with broker(tmp_path_factory.mktemp("login"), secured):
        yield port


@pytest.fixture
async def tokens() -> AsyncIterator[tuple[TokenServer, str]]:
    """A token server and its address."""
    server = TokenServer()
    async with await asyncio.start_server(server.answer, LOOPBACK, 0) as listening:
        yield server, f"http://{LOOPBACK}:{listening.sockets[0].getsockname()[1]}/token"


def settings(port: int, certificates: Certificates, **login: Any) -> KafkaSettings:
    """A client of the secured listener, with topics of its own."""
    trusted: dict[str, Any] = {"ca_file": certificates.folder / "authority.pem", "topic_prefix": f"t{next(_numbers)}-"}
    return KafkaSettings(
        bootstrap_servers=f"{LOOPBACK}:{port}",
        partitions=2,
        session_timeout_ms=6_000,
        **{"security_protocol": "SASL_SSL", **trusted, **login},
    )


def password(mechanism: str, secret: str) -> dict[str, Any]:
    """Settings of a login by name and password."""
    return {"sasl_mechanism": mechanism, "sasl_username": "alice", "sasl_password": SecretStr(secret)}


async def works(pool: asyncpg.Pool, kafka: KafkaSettings) -> bool:
    """Whether topics are created, events sent and applied, each once."""
    sales = [an_inventory_update(sku=f"S{number}") for number in range(20)]
    await ensure_topics(kafka)
    await send(kafka, *sales)
    worker = Worker(pool, kafka, kafka.topic("group"))
    async with worker.running():
        await until_applied(worker, 20)
    return await applied(worker) == sorted(str(sale.event_id) for sale in sales)


PASSWORDS = {"PLAIN": "plain-secret", "SCRAM-SHA-256": "scram-256-secret", "SCRAM-SHA-512": "scram-512-secret"}


@pytest.mark.parametrize(("mechanism", "secret"), PASSWORDS.items())
async def test_a_password_opens_the_broker(
    mechanism: str, secret: str, login_port: int, certificates: Certificates, pool: asyncpg.Pool
) -> None:
    assert await works(pool, settings(login_port, certificates, **password(mechanism, secret)))


@pytest.mark.parametrize(
    "login", [password("PLAIN", "wrong"), password("SCRAM-SHA-512", "wrong")], ids=["PLAIN", "SCRAM-SHA-512"]
)
async def test_a_wrong_password_does_not(login: Mapping[str, Any], login_port: int, certificates: Certificates) -> None:
    with pytest.raises(KafkaConnectionError):
        await ensure_topics(settings(login_port, certificates, **login))


async def test_a_broker_whose_authority_is_not_trusted_gets_no_password(
    login_port: int, certificates: Certificates
) -> None:
    stranger = certificates.folder / "stranger.pem"

    with pytest.raises(KafkaConnectionError):
        await ensure_topics(settings(login_port, certificates, ca_file=stranger, **password("PLAIN", "plain-secret")))


async def test_a_token_opens_the_broker_and_is_renewed_before_the_broker_ends_the_connection(
    login_port: int, certificates: Certificates, pool: asyncpg.Pool, tokens: tuple[TokenServer, str]
) -> None:
    server, url = tokens
    kafka = settings(
        login_port,
        certificates,
        sasl_mechanism="OAUTHBEARER",
        oauth_token_url=url,
        oauth_client_id="stockflow",
        oauth_client_secret=SecretStr("secret"),
    )
    await ensure_topics(kafka)
    worker = Worker(pool, kafka, kafka.topic("group"))

    async with worker.running(), sending(kafka) as sender:
        for number in range(10):
            sale = an_inventory_update(sku=f"S{number}")
            await sender.send_and_wait(
                kafka.topic("inventory-events"), sale.model_dump_json().encode(), key=sale.key.encode()
            )
            await until_applied(worker, number + 1)
            await asyncio.sleep(TOKEN_SECONDS / 3)

    assert len(await applied(worker)) == 10
    # One for each of four clients, and two more for the two that lived through three lives of a token.
    assert server.granted >= 4 + 2 * 2


async def test_a_client_shows_its_certificate_where_the_broker_asks_for_one(
    certificates: Certificates, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    asks = {**certificates.broker_settings, "listener.name.secured.ssl.client.auth": "required"}
    folder = certificates.folder
    ours = {"cert_file": folder / "client.pem", "key_file": folder / "client.key"}

    async with broker(tmp_path, Secured(port, "SSL", asks)):
        assert await works(pool, settings(port, certificates, security_protocol="SSL", **ours))
        with pytest.raises(KafkaConnectionError):
            await ensure_topics(settings(port, certificates, security_protocol="SSL"))
