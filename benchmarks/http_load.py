"""A small HTTP client that costs little of the processor it shares with the server that is measured."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit


@dataclass(frozen=True, slots=True)
class Load:
    """What came back."""

    seconds: float
    statuses: dict[int, int]
    latencies_seconds: list[float]

    def quantile(self, share: float) -> float:
        """The latency in seconds that this share of the requests did not exceed."""
        ordered = sorted(self.latencies_seconds)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]

    def per_second(self, status: int = 201) -> float:
        """Answers with this status per second."""
        return self.statuses.get(status, 0) / self.seconds


async def post_repeatedly(url: str, body: Callable[[], bytes], *, token: str, connections: int, seconds: float) -> Load:
    """Send a fresh body over each connection again and again, one request at a time per connection."""
    target = urlsplit(url)
    head = f"POST {target.path} HTTP/1.1\r\n{_fields(target, token)}Content-Type: application/json\r\n".encode()

    def request() -> bytes:
        content = body()
        return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(content), content)

    return await _repeatedly(target, request, connections, seconds)


async def get_repeatedly(url: str, path: Callable[[], str], *, token: str, connections: int, seconds: float) -> Load:
    """As `post_repeatedly`, with a fresh path behind the URL each time."""
    target = urlsplit(url)
    fields = _fields(target, token)

    def request() -> bytes:
        return f"GET {target.path}{path()} HTTP/1.1\r\n{fields}\r\n".encode()

    return await _repeatedly(target, request, connections, seconds)


def _fields(target: SplitResult, token: str) -> str:
    return f"Host: {target.netloc}\r\nAuthorization: Bearer {token}\r\n"


async def _repeatedly(target: SplitResult, request: Callable[[], bytes], connections: int, seconds: float) -> Load:
    assert target.hostname is not None, "the URL names a host"
    statuses: dict[int, int] = {}
    latencies: list[float] = []
    started = time.perf_counter()

    async def client(host: str) -> None:
        reader, writer = await asyncio.open_connection(host, target.port)
        while (sent_at := time.perf_counter()) < started + seconds:
            writer.write(request())
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            latencies.append(time.perf_counter() - sent_at)
            status = int(answer[9:12])
            statuses[status] = statuses.get(status, 0) + 1
        writer.close()

    await asyncio.gather(*(client(target.hostname) for _ in range(connections)))
    return Load(time.perf_counter() - started, statuses, latencies)
