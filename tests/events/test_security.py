import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from pydantic import SecretStr, ValidationError

from libs.events.oauth import ClientCredentials
from libs.events.settings import KafkaSettings


class TokenServer:
    """Grants tokens that live for `expires_in` seconds, and counts them."""

    def __init__(self, expires_in: float) -> None:
        self.expires_in = expires_in
        self.forms: list[dict[str, list[str]]] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        self.forms.append(parse_qs((await reader.readexactly(length)).decode()))
        body = f'{{"access_token": "token-{len(self.forms)}", "expires_in": {self.expires_in}}}'
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def token_server() -> AsyncIterator[tuple[TokenServer, str]]:
    tokens = TokenServer(expires_in=3600)
    server = await asyncio.start_server(tokens.answer, "127.0.0.1", 0)
    async with server:
        yield tokens, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"


async def test_a_token_is_used_again_until_it_is_nearly_over(token_server: tuple[TokenServer, str]) -> None:
    tokens, url = token_server
    provider = ClientCredentials(url, "stockflow", "secret", "kafka")

    handed_out = await asyncio.gather(*(provider.token() for _ in range(5)))

    assert handed_out == ["token-1"] * 5
    assert tokens.forms == [{"grant_type": ["client_credentials"], "scope": ["kafka"]}]


async def test_a_token_is_renewed_before_it_expires(token_server: tuple[TokenServer, str]) -> None:
    tokens, url = token_server
    tokens.expires_in = 0.1
    provider = ClientCredentials(url, "stockflow", "secret", None)

    first = await provider.token()
    await asyncio.sleep(0.09)

    assert (first, await provider.token()) == ("token-1", "token-2")


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"security_protocol": "SASL_SSL"}, "KAFKA_SASL_MECHANISM"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "KAFKA_OAUTH_TOKEN_URL"),
    ],
)
def test_an_incomplete_login_names_what_is_missing(settings: dict[str, str], missing: str) -> None:
    with pytest.raises(ValidationError, match=missing):
        KafkaSettings(bootstrap_servers="kafka:9092", **settings)  # type: ignore[arg-type]


async def test_every_protocol_becomes_arguments_of_the_client() -> None:
    scram = KafkaSettings(
        bootstrap_servers="kafka:9092",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="pipeline",
        sasl_password=SecretStr("secret"),
    ).connection()

    assert scram["ssl_context"].check_hostname
    assert (scram["sasl_mechanism"], scram["sasl_plain_password"]) == ("SCRAM-SHA-512", "secret")
    assert "hunter2" not in repr(KafkaSettings(bootstrap_servers="kafka:9092", sasl_password=SecretStr("hunter2")))


def test_a_missing_authority_file_is_an_error_at_once(tmp_path: Path) -> None:
    settings = KafkaSettings(bootstrap_servers="kafka:9092", security_protocol="SSL", ca_file=tmp_path / "none.pem")

    with pytest.raises(FileNotFoundError):
        settings.connection()
