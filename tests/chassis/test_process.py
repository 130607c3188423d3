"""Processes as their supervisor and their clients see them: real ones, with signals and sockets."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from deploy.local.ports import free_ports
from libs.chassis import process
from tests.chassis import workers
from tests.chassis.test_problems import problem

pytestmark = pytest.mark.servers


@dataclass
class Started:
    """A running process and its HTTP port."""

    process: asyncio.subprocess.Process
    port: int

    @property
    def url(self) -> str:
        """Address of its HTTP server."""
        return f"http://127.0.0.1:{self.port}"

    async def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Its exit code and the log lines that were not read before."""
        output, _ = await asyncio.wait_for(self.process.communicate(), timeout=40)
        assert self.process.returncode is not None
        return self.process.returncode, [json.loads(line) for line in output.splitlines()]


@asynccontextmanager
async def started(kind: str, *, log_level: str = "info", port: int | None = None) -> AsyncIterator[Started]:
    """A process of a kind; killed at the end if it still runs."""
    port = port or free_ports(1)[0]
    environment = {
        **os.environ,
        "DATABASE_URL": "postgresql://unused",
        "AUTH_MODE": "off",
        "PORT": str(port),
        "OPS_PORT": str(port),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": log_level,
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chassis.workers", kind, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Started(child, port)
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()


async def until_serving(running: Started) -> httpx.Response:
    """The first answer of /healthz."""
    async with httpx.AsyncClient() as client:
        for _ in range(600):
            try:
                return await client.get(f"{running.url}/healthz")
            except httpx.TransportError:
                await asyncio.sleep(0.05)
    raise AssertionError("the process does not serve")


@pytest.fixture(scope="module")
async def api() -> AsyncIterator[Started]:
    """The example API in a process of its own."""
    async with started("api", log_level="warning") as running:
        await until_serving(running)
        yield running


@pytest.mark.parametrize(("kind", "stop_signal"), [("patient", signal.SIGTERM), ("api", signal.SIGINT)])
async def test_a_signal_ends_a_process_with_exit_code_0(kind: str, stop_signal: signal.Signals) -> None:
    async with started(kind) as running:
        assert (await until_serving(running)).json() == {"status": "ok"}
        running.process.send_signal(stop_signal)
        code, _ = await running.end()
    assert code == 0


async def test_a_worker_that_fails_ends_with_exit_code_1_and_says_why() -> None:
    async with started("crashing") as running:
        code, lines = await running.end()
    assert code == 1
    crash = next(line for line in lines if line["event"] == "crashed")
    assert (crash["level"], crash["process"]) == ("error", "crashing")
    assert "out of luck" in crash["exception"]


async def test_a_worker_that_is_done_ends_with_exit_code_0() -> None:
    async with started("finished") as running:
        assert (await running.end())[0] == 0


async def test_a_second_signal_ends_a_worker_that_does_not_listen() -> None:
    async with started("deaf") as running:
        await until_serving(running)
        running.process.terminate()
        await asyncio.sleep(0.5)
        assert running.process.returncode is None
        running.process.terminate()
        assert (await running.end())[0] == -signal.SIGTERM


async def test_work_that_does_not_listen_is_cut_off_after_its_grace_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.05)
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(TimeoutError, match="did not end"):
        await process._run_until_stopped(workers.deaf, stop)


async def test_a_taken_port_ends_a_process_with_exit_code_1() -> None:
    listener = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", free_ports(1)[0])
    taken = listener.sockets[0].getsockname()[1]
    for kind in ("api", "patient"):
        async with started(kind, port=taken) as running:
            assert (await running.end())[0] == 1, kind
    listener.close()


async def test_the_ops_port_tells_the_reason_of_bad_health_and_the_metrics() -> None:
    async with started("sick") as running:
        health = await until_serving(running)
        assert (health.status_code, health.json()["reason"]) == (503, "consumer stalled")
        async with httpx.AsyncClient() as client:
            assert "stockflow_test_steps_total 1.0" in (await client.get(f"{running.url}/metrics")).text


async def until_lag(running: Started, at_least: float) -> None:
    """Wait until the process tells that a timer was so late."""
    async with httpx.AsyncClient() as client, asyncio.timeout(20):
        while True:
            lines = (await client.get(f"{running.url}/metrics")).text.splitlines()
            [lag] = [line.split()[1] for line in lines if line.startswith("stockflow_event_loop_lag_seconds ")]
            if float(lag) >= at_least:
                return
            await asyncio.sleep(0.05)


async def test_a_call_that_blocks_shows_as_lag_of_the_event_loop(api: Started) -> None:
    async with started("blocking") as running:
        await until_serving(running)
        await until_lag(running, 0.7)
    await until_lag(api, 1e-9)


async def test_requests_are_logged_with_their_id() -> None:
    async with started("api") as running:
        await until_serving(running)
        async with httpx.AsyncClient() as client:
            await client.get(f"{running.url}/nothing%0Aforged", headers={"X-Request-ID": "abc-1"})
            await client.post(f"{running.url}/api/v1/bugs", headers={"X-Request-ID": "abc-2"})
        running.process.terminate()
        _, lines = await running.end()
    logged = {(line["event"], line.get("request_id")): line for line in lines}
    assert logged["http_request", "abc-1"]["status"] == 404
    assert logged["http_request", "abc-1"]["path"] == "/nothing%0Aforged"
    assert "secret internals" in logged["request_failed", "abc-2"]["exception"]
    assert all(line["process"] == "example" for line in lines)


async def test_a_request_in_flight_is_answered_before_the_end() -> None:
    async with started("api") as running:
        await until_serving(running)
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /api/v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        await writer.drain()
        await asyncio.sleep(0.3)
        running.process.terminate()
        await asyncio.sleep(0.3)
        writer.write(b"cd")
        answer = await asyncio.wait_for(reader.read(), timeout=5)
        writer.close()
        assert b'{"bytes":4}' in answer
        assert (await running.end())[0] == 0


async def test_a_large_announced_body_is_413(api: Started) -> None:
    async with httpx.AsyncClient() as client:
        response = await client.post(
            f"{api.url}/api/v1/documents", content=b"x" * (2 * 2**20), headers={"Content-Type": "application/json"}
        )
    problem(response, 413, "content-too-large")


async def test_a_caller_who_sends_all_of_a_large_body_first_reads_the_413(api: Started) -> None:
    for _ in range(40):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(b"POST /api/v1/documents HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n")
        writer.write(b"x" * 2**20)
        await asyncio.sleep(0.005)
        writer.write(b"x" * 2**20)
        await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        writer.close()


async def test_a_caller_who_waits_for_leave_to_send_a_large_body_gets_413_instead(api: Started) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(
        b"POST /api/v1/documents HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (await asyncio.wait_for(reader.readline(), timeout=5)).startswith(b"HTTP/1.1 413")
    writer.close()


async def test_a_caller_who_stops_sending_a_large_body_is_answered(api: Started) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"POST /api/v1/documents HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), timeout=5)).startswith(b"HTTP/1.1 413")
    writer.close()


@pytest.mark.parametrize("path", ["documents", "uploads"])
async def test_a_large_body_of_unannounced_length_is_413(api: Started, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b"x" * 2**16

    async with httpx.AsyncClient() as client:
        response = await client.post(
            f"{api.url}/api/v1/{path}", content=chunks(), headers={"Content-Type": "application/json"}
        )
    problem(response, 413, "content-too-large")


async def test_a_chunked_body_is_read(api: Started) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"documentId": "7f1f1a2e-'
        yield b'9d0e-4a7e-8f6e-2b9f3a4c5d6e"}'

    async with httpx.AsyncClient() as client:
        headers = {"Content-Type": "application/json"}
        response = await client.post(f"{api.url}/api/v1/documents", content=chunks(), headers=headers)
        assert response.status_code == 201, response.text
        headers = {"Content-Type": "text/plain"}
        response = await client.post(f"{api.url}/api/v1/documents", content=chunks(), headers=headers)
        problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\x00b\r\n\r\n",
    ],
)
async def test_malformed_http_is_400_and_the_process_goes_on(api: Started, request_bytes: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(request_bytes)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), timeout=5)
    writer.close()
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404")), answer
    assert (await until_serving(api)).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/things/%ff%fe", "/api/v1/things/%00", "//", "/%2e%2e/x", "/docs/static/../"])
async def test_odd_paths_are_never_a_server_error(api: Started, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    status = int((await asyncio.wait_for(reader.read(), timeout=5)).split()[1])
    writer.close()
    assert status < 500
