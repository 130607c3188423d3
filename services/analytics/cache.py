"""Redis `analytics:*`: expensive answers, kept under the version of the facts that they were computed from.

A new version is a new key, so an answer is never served after the facts have changed. Without Redis every answer
is computed.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis.asyncio as redis
import structlog
from prometheus_client import Counter
from redis.exceptions import RedisError

from libs.chassis.model import ApiModel

log = structlog.get_logger(__name__)

LOOKUPS = Counter("stockflow_analytics_cache_total", "Cached answers asked for.", ["outcome"])
TIMEOUT_SECONDS = 0.25

Answer = TypeVar("Answer", bound=ApiModel)


class Cache:
    """Answers by name, version and parameters."""

    def __init__(self, client: "redis.Redis | None", ttl_seconds: int) -> None:
        self._client = client
        self._ttl_seconds = ttl_seconds

    async def answer(
        self, name: str, version: str, parameters: str, model: type[Answer], compute: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """The kept answer, or a computed one that is kept from now on."""
        key = f"analytics:{name}:{version}:{hashlib.sha256(parameters.encode()).hexdigest()[:32]}"
        if kept := await self._get(key):
            return model.model_validate_json(kept)
        computed = await compute()
        await self._set(key, computed.model_dump_json(by_alias=True))
        return computed

    async def close(self) -> None:
        """Close the connections."""
        if self._client:
            await self._client.aclose()

    async def _get(self, key: str) -> str | bytes | None:
        if self._client is None:
            return None
        try:
            kept = await self._client.get(key)
        except (RedisError, OSError, TimeoutError) as error:
            LOOKUPS.labels("unavailable").inc()
            log.warning("cache_unavailable", error_class=type(error).__name__)
            return None
        LOOKUPS.labels("hit" if kept else "miss").inc()
        return kept

    async def _set(self, key: str, answer: str) -> None:
        if self._client is None:
            return
        try:
            await self._client.set(key, answer, ex=self._ttl_seconds)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("cache_unavailable", error_class=type(error).__name__)


def open_cache(url: str | None, ttl_seconds: int) -> Cache:
    """A cache that connects when it is first asked; without an address it keeps nothing."""
    if url is None:
        return Cache(None, ttl_seconds)
    client = redis.from_url(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
    return Cache(client, ttl_seconds)
