"""The services as a client sees them: every call is repeated until a definite answer, with the same ids."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

from tools.replay.catalogue import MinMaxPolicy, Product

TRY_AGAIN = frozenset({429, 502, 503, 504})
REFUSED = frozenset({400, 404, 409, 413, 422})
_PATIENCE_SECONDS = 120.0
_BACKOFF = wait_exponential_jitter(multiplier=0.2, max=5.0, jitter=0.2)


class TryAgain(Exception):
    """The service asks to repeat the request later, or changed the resource meanwhile."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{response.request.method} {response.request.url}: {response.status_code}")
        self.response = response


class UnexpectedAnswer(Exception):
    """An answer that the contract does not foresee for this request: the replay cannot go on."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a service refused a request or one document of a batch."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """What became of each document of a batch, by index; or the refusal of the batch as a whole."""

    refusals: Mapping[int, Refusal]
    replayed: int
    whole: Refusal | None = None


def _pause(state: RetryCallState) -> float:
    """Seconds until the next try: what the service asked for, else exponential backoff with jitter."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.response.headers.get("Retry-After", "") if isinstance(error, TryAgain) else ""
    return float(asked) if asked.isdigit() else _BACKOFF(state)


def _retrying() -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type((httpx.TransportError, TryAgain)),
        wait=_pause,
        stop=stop_after_delay(_PATIENCE_SECONDS),
        reraise=True,
    )


@asynccontextmanager
async def connected(inventory_url: str, reorder_url: str, api_key: str, *, connections: int) -> AsyncIterator["Api"]:
    """An Api on at most `connections` connections per service."""
    limits = httpx.Limits(max_connections=2 * connections, max_keepalive_connections=2 * connections)
    headers = {"Authorization": f"Bearer {api_key}"}
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=httpx.Timeout(60.0, connect=5.0)) as client:
        yield Api(client, f"{inventory_url}/api/v1", f"{reorder_url}/api/v1")


class Api:
    """The requests that a replay makes."""

    def __init__(self, client: httpx.AsyncClient, inventory: str, reorder: str) -> None:
        self._client = client
        self._inventory = inventory
        self._reorder = reorder

    async def create_product(self, product: Product) -> Refusal | None:
        """The product exists afterwards; a product that is there under another name stays as it is."""
        return await self._create(f"{self._inventory}/products", {"sku": product.sku, "name": product.name})

    async def create_warehouse(self, warehouse_id: str) -> Refusal | None:
        """The warehouse exists afterwards."""
        return await self._create(f"{self._inventory}/warehouses", {"warehouseId": warehouse_id, "name": warehouse_id})

    async def create_policy(self, policy: MinMaxPolicy) -> Refusal | None:
        """The stock item has a reorder policy afterwards; one that is there already stays as it is."""
        body = {
            "sku": policy.sku,
            "warehouseId": policy.warehouse_id,
            "kind": "min_max",
            "reorderPoint": policy.reorder_point,
            "orderUpTo": policy.order_up_to,
        }
        return await self._create(f"{self._reorder}/reorder-policies", body)

    async def set_thresholds(self, policy: MinMaxPolicy) -> Refusal | None:
        """The stock level has the reorder point and quantity of the policy afterwards, whatever it had."""
        url = f"{self._inventory}/stock-levels/{quote(policy.warehouse_id, safe='')}/{quote(policy.sku)}"
        body = {"reorderPoint": policy.reorder_point, "reorderQuantity": policy.order_up_to - policy.reorder_point}
        async for attempt in _retrying():
            with attempt:
                level = await self._send("GET", url)
                if level.status_code in REFUSED:
                    return _refusal(level)
                response = await self._send("PATCH", f"{url}/thresholds", body, {"If-Match": level.headers["ETag"]})
                if response.status_code == 412:
                    raise TryAgain(response)
        return _refusal(response) if response.status_code in REFUSED else None

    async def post_batch(self, bodies: Sequence[Mapping[str, Any]]) -> BatchAnswer:
        """Post documents, keeping the good ones of a batch in which others are refused."""
        body = {"errorPolicy": "acceptValid", "transactions": bodies}
        response = await self._repeated("POST", f"{self._inventory}/transaction-batches", body)
        if response.status_code in REFUSED:
            return BatchAnswer({}, 0, whole=_refusal(response))
        answer = response.json()
        refusals = {
            result["index"]: Refusal(result["problem"]["code"], result["problem"]["detail"])
            for result in answer["results"]
            if result["status"] == "rejected"
        }
        return BatchAnswer(refusals, answer["replayed"])

    async def _create(self, url: str, body: Mapping[str, Any]) -> Refusal | None:
        response = await self._repeated("POST", url, body)
        if response.status_code not in REFUSED:
            return None
        refusal = _refusal(response)
        return None if refusal.code == "already-exists" else refusal

    async def _repeated(self, method: str, url: str, body: Mapping[str, Any]) -> httpx.Response:
        async for attempt in _retrying():
            with attempt:
                response = await self._send(method, url, body)
        return response

    async def _send(
        self, method: str, url: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The answer, if it is success or a refusal. Raises TryAgain or UnexpectedAnswer otherwise."""
        content = None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        typed = {"Content-Type": "application/json", **(headers or {})}
        response = await self._client.request(method, url, content=content, headers=typed)
        if response.status_code in TRY_AGAIN:
            raise TryAgain(response)
        if response.is_success or response.status_code in REFUSED or response.status_code == 412:
            return response
        raise UnexpectedAnswer(f"{method} {url}: {response.status_code} {response.text[:500]}")


def _refusal(response: httpx.Response) -> Refusal:
    problem = response.json()
    return Refusal(problem["code"], problem["detail"])
