"""Stock and metrics in Redis, for readers that need them at once.

| key | type | content |
|---|---|---|
| `stock:levels:<warehouseId>` | hash sku -> JSON | what is on hand, reserved, available, and the reorder thresholds |
| `stock:metrics:<warehouseId>` | hash sku -> JSON | velocity, trend |
| `stock:low` | set of Kafka keys | items at or below their reorder point or without stock |
| `stock:top-movers` | hash days -> JSON | the skus of most net demand in 7, 30 and 90 days |
| `stock:built` | string | there as long as nobody has emptied Redis |

Every value is a pure function of Postgres rows and begins with its revision: only a revision that is not smaller
replaces it, so writers may be late, repeat themselves or overtake each other.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import islice
from typing import cast
from uuid import uuid4

import asyncpg
from pydantic_core import from_json, to_json
from redis import asyncio as redis
from redis.exceptions import RedisError, ResponseError

from libs.events.envelope import stock_item_key
from services.pipeline.velocity import WINDOWS_DAYS

Error = RedisError

LEVELS = "stock:levels:"
METRICS = "stock:metrics:"
LOW_STOCK = "stock:low"
TOP_MOVERS = "stock:top-movers"
BUILT = "stock:built"
BUILDING = "stock:building"

ITEMS_PER_CALL = 500
TIMEOUT_SECONDS = 10.0

# KEYS: the hash, the low-stock set. ARGV, five per item: field, revision, value, member of the set or '', '1' if low.
_WRITE_NEWER = """
for i = 1, #ARGV, 5 do
  local stored = redis.call('HGET', KEYS[1], ARGV[i])
  if not stored or tonumber(string.match(stored, '^{"revision":(%d+)')) <= tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    if ARGV[i + 3] ~= '' then
      redis.call(ARGV[i + 4] == '1' and 'SADD' or 'SREM', KEYS[2], ARGV[i + 3])
    end
  end
end
"""

# KEYS: the hash, the low-stock set. ARGV, three per item: field, the value that was read, member of the set or ''.
_DELETE_SAME = """
for i = 1, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    if ARGV[i + 2] ~= '' then
      redis.call('SREM', KEYS[2], ARGV[i + 2])
    end
  end
end
"""

Row = asyncpg.Record
StockItem = tuple[str, str]
"""sku, warehouse_id."""


class Cache:
    """The pipeline's keys in Redis."""

    def __init__(self, url: str) -> None:
        self._client = redis.from_url(
            url, decode_responses=True, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        )
        self._write_newer = self._client.register_script(_WRITE_NEWER)
        self._delete_same = self._client.register_script(_DELETE_SAME)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def is_built(self) -> bool:
        """Whether the cache holds every stock item; False after somebody emptied Redis."""
        return bool(await self._client.exists(BUILT))

    async def begin_build(self) -> None:
        """Announce that every stock item is about to be written."""
        await self._client.set(BUILDING, str(uuid4()))

    async def end_build(self) -> bool:
        """Declare the cache built. False when somebody emptied Redis since `begin_build`: then begin again."""
        try:
            await self._client.rename(BUILDING, BUILT)
        except ResponseError:
            return False
        return True

    async def write_levels(self, levels: Iterable[Row]) -> None:
        """Store what is in stock: rows of `metric_queries.levels`."""
        by_warehouse: dict[str, list[bytes | str | int]] = defaultdict(list)
        for level in levels:
            member = stock_item_key(level["warehouse_id"], level["sku"])
            low = "1" if is_low(level) else "0"
            by_warehouse[level["warehouse_id"]] += [level["sku"], level["revision"], _level(level), member, low]
        await self._write(LEVELS, by_warehouse)

    async def write_metrics(self, metrics: Iterable[Row]) -> None:
        """Store metrics: rows of `stock_metric`."""
        by_warehouse: dict[str, list[bytes | str | int]] = defaultdict(list)
        for metric in metrics:
            by_warehouse[metric["warehouse_id"]] += [metric["sku"], metric["revision"], _metric(metric), "", ""]
        await self._write(METRICS, by_warehouse)

    async def write_top_movers(self, movers: Sequence[Row], revision: int) -> None:
        """Store the rankings: rows of `metric_queries.top_movers`, read after `revision` was drawn."""
        arguments: list[bytes | str | int] = []
        for days in WINDOWS_DAYS:
            items = [{"sku": row["sku"], "units": int(row["units"])} for row in movers if row["days"] == days]
            arguments += [str(days), revision, to_json({"revision": revision, "days": days, "items": items}), "", ""]
        await self._write_newer(keys=[TOP_MOVERS, LOW_STOCK], args=arguments)

    async def _write(self, prefix: str, by_warehouse: Mapping[str, Sequence[bytes | str | int]]) -> None:
        for warehouse_id, arguments in by_warehouse.items():
            rest = iter(arguments)
            while chunk := list(islice(rest, 5 * ITEMS_PER_CALL)):
                await self._write_newer(keys=[prefix + warehouse_id, LOW_STOCK], args=chunk)

    async def stored(self, prefix: str) -> AsyncIterator[dict[StockItem, str]]:
        """The values below LEVELS or METRICS as they stand there, some stock items at a time."""
        for key in [str(key) async for key in self._client.scan_iter(prefix + "*", count=1000)]:
            fields: dict[StockItem, str] = {}
            async for sku, value in self._client.hscan_iter(key, count=ITEMS_PER_CALL):
                fields[str(sku), key.removeprefix(prefix)] = str(value)
                if len(fields) == ITEMS_PER_CALL:
                    yield fields
                    fields = {}
            yield fields

    async def delete(self, prefix: str, values: Mapping[StockItem, str]) -> None:
        """Delete values below LEVELS or METRICS, unless they are no longer as they were read."""
        by_warehouse: dict[str, list[str]] = defaultdict(list)
        for (sku, warehouse_id), value in values.items():
            member = stock_item_key(warehouse_id, sku) if prefix == LEVELS else ""
            by_warehouse[warehouse_id] += [sku, value, member]
        for warehouse_id, arguments in by_warehouse.items():
            await self._delete_same(keys=[prefix + warehouse_id, LOW_STOCK], args=arguments)

    async def on_hand(self, warehouse_id: str) -> dict[str, int]:
        """Units on hand per sku of a warehouse, as the cache has them."""
        fields = cast(dict[str, str], await self._client.hgetall(LEVELS + warehouse_id))
        return {sku: from_json(value)["quantityOnHand"] for sku, value in fields.items()}

    async def warehouses(self) -> list[str]:
        """The warehouses of which the cache has levels."""
        keys = [str(key) async for key in self._client.scan_iter(LEVELS + "*", count=1000)]
        return sorted(key.removeprefix(LEVELS) for key in keys)


def is_low(level: Row) -> bool:
    """Whether a stock item is out of stock, or at or below its reorder point if it has one."""
    available: int = level["quantity_on_hand"] - level["quantity_reserved"]
    return available <= (level["reorder_point"] or 0)


def _level(level: Row) -> bytes:
    return to_json(
        {
            "revision": level["revision"],
            "quantityOnHand": level["quantity_on_hand"],
            "quantityReserved": level["quantity_reserved"],
            "quantityAvailable": level["quantity_on_hand"] - level["quantity_reserved"],
            "reorderPoint": level["reorder_point"],
            "reorderQuantity": level["reorder_quantity"],
            "isLow": is_low(level),
        }
    )


def _metric(metric: Row) -> bytes:
    return to_json(
        {
            "revision": metric["revision"],
            "asOf": metric["as_of"],
            "windows": [
                {
                    "days": days,
                    "demand": metric[f"demand_{days}"],
                    "velocityPerDay": metric[f"velocity_{days}"],
                    "sdDailyDemand": metric[f"sd_daily_{days}"],
                }
                for days in WINDOWS_DAYS
            ],
            "changeRatio30d": metric["change_ratio_30d"],
            "slopePerDay": metric["slope_per_day"],
            "tStatistic": metric["t_statistic"],
            "direction": metric["direction"],
        }
    )
