"""What the stores hold, read from them directly."""

import asyncio
import json
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import asyncpg
import redis.asyncio as redis
from aiokafka import TopicPartition
from deltalake import DeltaTable
from pymongo import AsyncMongoClient

from deploy.local.services import ROOT
from libs.events.settings import KafkaSettings
from libs.events.topics import ANALYTICS_EVENTS, INVENTORY_EVENTS, REORDER_EVENTS, TOPICS, Topic
from services.pipeline.lake import LakeTable
from tools.chaos import topic
from tools.chaos.oracle import Bucket, StockItem, Totals

SCHEMAS: Final = ("inventory", "reorder", "pipeline")
GROUPS: Final = {
    "pipeline-stream": (INVENTORY_EVENTS,),
    "pipeline-archive": TOPICS,
    "reorder-position": (INVENTORY_EVENTS, ANALYTICS_EVENTS),
    "analytics-history": (INVENTORY_EVENTS, REORDER_EVENTS, ANALYTICS_EVENTS),
}
"""Every consumer group and what it reads."""
_SCHEMA_OF: Final = {"pipeline-stream": "pipeline", "pipeline-archive": "pipeline", "reorder-position": "reorder"}

Place = tuple[str, str, int]
"""group, topic, partition."""
RecordPlace = tuple[str, str, int, int]
"""group, topic, partition, offset."""


@dataclass(frozen=True, slots=True)
class Position:
    """A stock item as a service knows it."""

    sequence: int
    missing: bool
    revision: int
    quantity_on_hand: int
    quantity_reserved: int
    reorder_point: int | None


class Stores:
    """Connections to every store of a stack, as an administrator has them."""

    def __init__(self, env: Mapping[str, str], postgres: asyncpg.Pool, cache: Any, mongo: Any) -> None:
        self._env = env
        self._postgres = postgres
        self._cache = cache
        self._mongo = mongo.get_default_database()
        self.kafka = KafkaSettings(bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"])

    @classmethod
    @asynccontextmanager
    async def opened(cls, env: Mapping[str, str]) -> AsyncIterator[Self]:
        """Connected to the stores at these addresses."""
        async with (
            asyncpg.create_pool(env["DATABASE_URL"], min_size=0, max_size=2) as postgres,
            redis.from_url(env["REDIS_URL"], decode_responses=True) as cache,
            AsyncMongoClient[dict[str, Any]](env["MONGO_URL"]) as mongo,
        ):
            yield cls(env, postgres, cache, mongo)

    async def ledger(self) -> list[asyncpg.Record]:
        """Every ledger entry, in order of document and line."""
        return await self._postgres.fetch(
            """
            SELECT transaction_id, line_no, sku, warehouse_id, sequence, quantity_change
              FROM inventory.ledger_entry ORDER BY transaction_id, line_no
            """
        )

    async def levels(self) -> dict[StockItem, Position]:
        """Stock levels of the inventory service."""
        return await self._positions("inventory.stock_level", "sequence, false")

    async def pipeline_positions(self) -> dict[StockItem, Position]:
        """Stock positions of the pipeline."""
        return await self._positions("pipeline.stock_position", "last_sequence, NOT isempty(missing)")

    async def reorder_positions(self) -> dict[StockItem, Position]:
        """Inventory positions of the reorder service."""
        return await self._positions("reorder.inventory_position", "last_sequence, NOT isempty(missing)")

    async def _positions(self, table: str, progress: str) -> dict[StockItem, Position]:
        rows = await self._postgres.fetch(
            f"SELECT sku, warehouse_id, {progress}, revision, quantity_on_hand, quantity_reserved, reorder_point "
            f"FROM {table}"
        )
        return {(sku, warehouse_id): Position(*rest) for sku, warehouse_id, *rest in rows}

    async def recommended(self) -> dict[StockItem, tuple[int, int, int]]:
        """Inventory position, reorder point and quantity of each open recommendation."""
        rows = await self._postgres.fetch(
            "SELECT sku, warehouse_id, inventory_position, reorder_point, recommended_quantity "
            "FROM reorder.recommendation WHERE status = 'open'"
        )
        return {
            (sku, warehouse_id): (position, point, quantity) for sku, warehouse_id, position, point, quantity in rows
        }

    async def recommendation_revisions(self) -> dict[str, tuple[str, int]]:
        """Status and revision of every recommendation there ever was, by id."""
        rows = await self._postgres.fetch("SELECT recommendation_id, status, revision FROM reorder.recommendation")
        return {str(row["recommendation_id"]): (row["status"], row["revision"]) for row in rows}

    async def hourly(self) -> dict[Bucket, Totals]:
        """The pipeline's hourly facts."""
        return await self._facts("hourly_movement", "(extract(epoch FROM bucket_start) / 3600)::bigint")

    async def daily(self) -> dict[Bucket, Totals]:
        """The pipeline's daily facts."""
        return await self._facts("daily_movement", "(date - date '1970-01-01')::bigint")

    async def _facts(self, table: str, period: str) -> dict[Bucket, Totals]:
        rows = await self._postgres.fetch(
            f"SELECT sku, warehouse_id, {period}, transaction_type, entries, units_in, units_out, value "
            f"FROM pipeline.{table}"
        )
        return {(row[0], row[1], row[2], row[3]): Totals(*row[4:]) for row in map(tuple, rows)}

    async def control(self) -> dict[Bucket, tuple[int, int, int]]:
        """Entries, units in and units out per hourly bucket, as the control has counted them."""
        rows = await self._postgres.fetch("SELECT * FROM chaos_control.hourly")
        return {(row[0], row[1], row[2], row[3]): row[4:] for row in map(tuple, rows)}

    async def metrics(self) -> dict[StockItem, asyncpg.Record]:
        """The pipeline's metrics."""
        rows = await self._postgres.fetch("SELECT * FROM pipeline.stock_metric")
        return {(row["sku"], row["warehouse_id"]): row for row in rows}

    async def external_ids(self) -> set[str]:
        """Event ids of the updates of third parties."""
        rows = await self._postgres.fetch("SELECT event_id FROM pipeline.external_update")
        return {str(row["event_id"]) for row in rows}

    async def waiting(self) -> dict[str, int]:
        """Work that waits in Postgres: outboxes, and stock items without new metrics."""
        depths = {
            f"{schema} outbox": await self._postgres.fetchval(f"SELECT count(*) FROM {schema}.outbox")
            for schema in SCHEMAS
        }
        dirty = await self._postgres.fetchval("SELECT count(*) FROM pipeline.dirty_stock_item")
        return depths | {"dirty stock items": dirty}

    async def next_offsets(self) -> dict[Place, int | None]:
        """How far each group has come."""
        found: dict[Place, int | None] = {}
        for schema in ("reorder", "pipeline"):
            rows = await self._postgres.fetch(
                f"SELECT group_name, topic, partition, next_offset FROM {schema}.consumer_offset"
            )
            found |= {(row["group_name"], row["topic"], row["partition"]): row["next_offset"] for row in rows}
        async for row in self._mongo["consumer_offsets"].find({}):
            found[row["group"], row["topic"], row["partition"]] = row.get("nextOffset")
        return found

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """Where each partition of each topic ends."""
        async with topic.reader(self.kafka) as consumer:
            return await topic.end_offsets(consumer, self.kafka, [each.name for each in TOPICS])

    async def dead_letters(self) -> list[RecordPlace]:
        """The place of every dead letter of every group."""
        places: list[RecordPlace] = []
        for schema in ("reorder", "pipeline"):
            rows = await self._postgres.fetch(
                f"SELECT group_name, topic, partition, record_offset FROM {schema}.dead_letter"
            )
            places += [(row[0], row[1], row[2], row[3]) for row in map(tuple, rows)]
        async for row in self._mongo["dead_letters"].find({}):
            places.append((row["group"], row["topic"], row["partition"], row["offset"]))
        return places

    async def history(self) -> dict[str, list[tuple[str, str, int]]]:
        """MongoDB's transactions: what each changed, line by line."""
        return {
            row["transactionId"]: [(line["sku"], line["warehouseId"], line["quantityChange"]) for line in row["lines"]]
            async for row in self._mongo["transactions"].find({})
        }

    async def history_size(self) -> int:
        """How many transactions MongoDB holds."""
        return int(await self._mongo["transactions"].count_documents({}))

    async def reorder_event_ids(self) -> list[str]:
        """The ids of MongoDB's reorder events."""
        return [row["_id"] async for row in self._mongo["reorder_events"].find({}, {"_id": 1})]

    async def metric_revisions(self, metric: str, as_of: str) -> dict[StockItem, int]:
        """The revision of each stock item's metric in MongoDB, as of a day."""
        rows = self._mongo["metric_history"].find({"metric": metric, "asOf": as_of})
        return {(row["sku"], row["warehouseId"]): row["revision"] async for row in rows}

    async def cached(self, prefix: str) -> dict[StockItem, dict[str, Any]]:
        """The JSON of each stock item in Redis, from the hashes of all warehouses."""
        found = {}
        async for key in self._cache.scan_iter(f"{prefix}*"):
            for sku, value in (await self._cache.hgetall(key)).items():
                found[sku, key.removeprefix(prefix)] = json.loads(value)
        return found

    async def low_stock(self) -> set[str]:
        """The members of the set of low stock items in Redis."""
        return set(await self._cache.smembers("stock:low"))

    async def lake_rows(self, source: Topic) -> dict[tuple[int, int], int]:
        """How often each record (partition, offset) of a topic is in the lake."""
        rows = await asyncio.to_thread(_lake_places, f"{self._env['LAKE_URL']}/{source.name}")
        counts: dict[tuple[int, int], int] = defaultdict(int)
        for place in rows:
            counts[place] += 1
        return counts

    async def lake_events(self, source: Topic, event_type: str) -> list[str]:
        """The event ids that the lake's own reader shows, repeats included if it shows any."""
        table = LakeTable(self._env["LAKE_URL"], source)
        return await asyncio.to_thread(
            lambda: [
                str(event_id)
                for part in table.events(event_type, ["eventId"])
                for event_id in part["eventId"].to_pylist()
            ]
        )

    async def audit(self) -> tuple[int, str]:
        """Exit code and output of the inventory service's own audit."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.inventory", "audit"),
            cwd=ROOT,
            env={**os.environ, **self._env, "DATABASE_URL": self._env["DATABASE_URL_INVENTORY"], "PORT": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode(errors="replace")


def _lake_places(url: str) -> list[tuple[int, int]]:
    if not DeltaTable.is_deltatable(url):
        return []
    rows = DeltaTable(url).to_pyarrow_table(columns=["partition", "offset"]).to_pylist()
    return [(row["partition"], row["offset"]) for row in rows]
