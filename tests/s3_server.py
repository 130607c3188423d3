"""A server that speaks S3, in a process and an environment of its own: its dependencies do not agree with ours."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from deploy.local.ports import LOOPBACK, free_ports
from tests.stack import ROOT

PYTHON = ROOT / ".local/s3-server/bin/python"
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server; what it holds goes with it."""

    address: str
    process: asyncio.subprocess.Process

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "lake",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }

    async def create_bucket(self, name: str) -> None:
        """An empty bucket. The server asks for no signature."""
        async with httpx.AsyncClient() as client:
            (await client.put(f"{self.address}/{name}")).raise_for_status()

    def pause(self) -> None:
        """Answer nobody for a while."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer what has come meanwhile."""
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def s3_server() -> AsyncIterator[S3Server]:
    """A server, while the block runs; skips the test where it is not installed."""
    if not PYTHON.exists():
        pytest.skip("NOT CHECKED: a server that speaks S3 is missing, `make test` and `make test-slow` install it")
    [port] = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        str(PYTHON), "-m", "moto.server", "-H", LOOPBACK, "-p", str(port), stderr=asyncio.subprocess.DEVNULL
    )
    server = S3Server(f"http://{LOOPBACK}:{port}", process)
    try:
        async with asyncio.timeout(START_SECONDS):
            await _answering(server)
        yield server
    finally:
        process.kill()
        await process.wait()


async def _answering(server: S3Server) -> None:
    async with httpx.AsyncClient() as client:
        while True:
            assert server.process.returncode is None, "the S3 server ended at once"
            try:
                await client.get(server.address)
                return
            except httpx.TransportError:
                await asyncio.sleep(0.05)
