"""The four services, read over REST."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

SERVICES = ("inventory", "reorder", "pipeline", "analytics")
_PAGE = 500
_PATIENCE_SECONDS = 60.0
_TIMEOUT_SECONDS = 600.0
"""The reconciliation reads every store from end to end."""


@dataclass(frozen=True, slots=True)
class Outstanding:
    """Work that waits somewhere between the ledger and the last store."""

    outbox_events: int
    consumer_lag: int
    metric_backlog: int

    @property
    def total(self) -> int:
        """0 when every service has seen everything."""
        return self.outbox_events + self.consumer_lag + self.metric_backlog


class Stockflow:
    """Answers of the running services. A service that restarts is asked again until it answers."""

    def __init__(self, client: httpx.AsyncClient, urls: Mapping[str, str]) -> None:
        self._client = client
        self._urls = urls

    async def get(self, service: str, path: str, **query: Any) -> Any:
        """The JSON at /api/v1/`path` of a service. Raises httpx.HTTPStatusError for an error answer."""
        given = {name: value for name, value in query.items() if value is not None}
        retrying = AsyncRetrying(
            retry=retry_if_exception(_is_passing),
            wait=wait_exponential_jitter(multiplier=0.1, max=2.0),
            stop=stop_after_delay(_PATIENCE_SECONDS),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                response = await self._client.get(f"{self._urls[service]}/api/v1/{path}", params=given)
                response.raise_for_status()
        return response.json()

    async def every(self, service: str, path: str, **query: Any) -> list[dict[str, Any]]:
        """All items of a list, page by page."""
        items: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = await self.get(service, path, limit=_PAGE, cursor=cursor, **query)
            items += page["items"]
            cursor = page["nextCursor"]
            if cursor is None:
                return items

    async def consumers(self) -> list[dict[str, Any]]:
        """Where every consumer group stands in every partition."""
        services = ("pipeline", "reorder", "analytics")
        return [item for service in services for item in (await self.get(service, "consumers"))["items"]]

    async def outstanding(self) -> Outstanding:
        """What still waits, asked in the direction in which events flow."""
        outboxes = [(await self.get(service, "outbox"))["depth"] for service in ("inventory", "reorder", "pipeline")]
        lag = sum(consumer["lag"] for consumer in await self.consumers())
        backlog = (await self.get("pipeline", "metrics-backlog"))["depth"]
        return Outstanding(sum(outboxes), lag, backlog)


def _is_passing(error: BaseException) -> bool:
    """Whether asking again may help: the service is starting or busy."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in {429, 502, 503, 504}
    return isinstance(error, httpx.TransportError)


@asynccontextmanager
async def connected(environment: Mapping[str, str]) -> AsyncIterator[Stockflow]:
    """The services of a stack, by the variables of its `stack.env`."""
    headers = {"Authorization": f"Bearer {environment['API_KEY']}"}
    urls = {service: environment[f"{service.upper()}_URL"] for service in SERVICES}
    async with httpx.AsyncClient(headers=headers, timeout=_TIMEOUT_SECONDS) as client:
        yield Stockflow(client, urls)
