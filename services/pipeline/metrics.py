"""The `metrics` process: velocity and trend of the stock items that changed, into Postgres, Redis and events.

It also keeps the history of products, categories and warehouses, by which movements are enriched.

One pass takes every stock item that is marked, once; of a long history of marks, a part. The next one begins at least
`metrics_interval_seconds` after its end, however long it took: so of one stock item and of one hourly bucket there are
no two events of a kind less than that apart, unless the process is restarted.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, date, datetime

import asyncpg
import structlog
from prometheus_client import Counter, Gauge, Histogram

from libs.chassis.database import Connection, Pool, acquired, open_pool
from libs.chassis.problems import Problem
from libs.events import outbox
from libs.events.failpoints import failpoint
from libs.events.postgres import TRANSIENT
from services.pipeline import cache, dimension_queries, metric_events, metric_queries
from services.pipeline.cache import Cache
from services.pipeline.loads import StockItem
from services.pipeline.settings import Settings

POLL_SECONDS = 0.25
BACK_OFF_SECONDS = 2.0
TOP_MOVERS = 100
MARKS_PER_BATCH = 50_000
"""So many changed buckets one transaction takes, however long nobody has calculated anything."""
_BEFORE_ALL: StockItem = ("", "")

CALCULATED = Counter("stockflow_metrics_calculated_total", "Stock items calculated.")
PASS_SECONDS = Histogram("stockflow_metrics_pass_seconds", "Time of one pass over the marked stock items.")
BEHIND_DAYS = Gauge("stockflow_metrics_behind_days", "Days by which the clock is ahead of the last full calculation.")
REBUILDS = Counter("stockflow_cache_rebuilds_total", "Times that the cache was found empty and written anew.")

log = structlog.get_logger(__name__)


class Metrics:
    """Keeps the metrics up to date."""

    def __init__(self, settings: Settings, pool: Pool, store: Cache) -> None:
        self._settings = settings
        self._pool = pool
        self._cache = store
        self._day: date | None = None
        self._day_since = 0.0
        self._caught_up_at = 0.0
        self._refresh_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Calculate what is marked until asked to stop; when Postgres or Redis is away, try again."""
        loop = asyncio.get_running_loop()
        next_pass_at = loop.time()
        while not stop.is_set():
            pause = POLL_SECONDS
            try:
                await self._refresh_dimensions(loop.time())
                if loop.time() >= next_pass_at and await self._has_work(loop.time()):
                    try:
                        await self.calculate_marked(stop)
                    finally:
                        next_pass_at = loop.time() + self._settings.metrics_interval_seconds
            except (*TRANSIENT, cache.Error, Problem) as error:
                log.warning("metrics.backing_off", error=repr(error), seconds=BACK_OFF_SECONDS)
                pause = BACK_OFF_SECONDS
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)

    async def calculate_marked(self, stop: asyncio.Event) -> None:
        """One pass: every marked stock item once, in bounded transactions, then the rankings."""
        with PASS_SECONDS.time():
            after: StockItem | None = _BEFORE_ALL
            while after is not None and not stop.is_set():
                after = await self._calculate_batch(after)
            async with acquired(self._pool) as connection:
                revision = await metric_queries.next_revision(connection)
                movers = await metric_queries.top_movers(connection, TOP_MOVERS)
            await self._cache.write_top_movers(movers, revision)

    async def rebuild_cache(self) -> None:
        """Write every stock item into Redis, again if Redis is emptied meanwhile, and delete those that are gone."""
        done = False
        while not done:
            await self._cache.begin_build()
            await self._write_whole_cache()
            await self._delete_gone()
            done = await self._cache.end_build()
        REBUILDS.inc()
        log.info("metrics.cache_rebuilt")

    async def _refresh_dimensions(self, now: float) -> None:
        if now >= self._refresh_at:
            async with acquired(self._pool) as connection, connection.transaction():
                begun = await dimension_queries.refresh(connection)
            self._refresh_at = now + self._settings.dimensions_interval_seconds
            if begun:
                log.info("metrics.dimensions_refreshed", versions=begun)

    async def _has_work(self, now: float) -> bool:
        if not await self._cache.is_built():
            await self.rebuild_cache()
        await self._advance_day(now)
        async with acquired(self._pool) as connection:
            return await metric_queries.has_dirty(connection)

    async def _advance_day(self, now: float) -> None:
        """Mark all active stock items when the day has advanced: once it stands still, or after a bounded time."""
        async with acquired(self._pool) as connection, connection.transaction():
            day = await metric_queries.as_of(connection, self._today())
            calculated = await metric_queries.calculated_as_of(connection)
            BEHIND_DAYS.set((day - calculated).days if day and calculated else 0)
            if day != self._day:
                self._day, self._day_since = day, now
            if day is None or (calculated is not None and calculated >= day):
                return
            stands_still = now - self._day_since >= self._settings.metrics_interval_seconds
            overdue = now - self._caught_up_at >= self._settings.metrics_catch_up_seconds
            if calculated is None or stands_still or overdue:
                marked = await metric_queries.advance_day(connection, day)
                self._caught_up_at = now
                log.info("metrics.day_advanced", as_of=str(day), marked=marked)

    async def _calculate_batch(self, after: StockItem) -> StockItem | None:
        """Calculate the next marked stock items; the last of them, None when there was none.

        Redis is written before the commit: if that fails, the marks stay, and if the commit fails, the next
        calculation has a larger revision.
        """
        async with acquired(self._pool) as connection, connection.transaction():
            most_items = self._settings.metrics_batch_items
            marks = await metric_queries.take_dirty(connection, after, most_items, MARKS_PER_BATCH)
            if not marks:
                return None
            items = sorted({(mark["sku"], mark["warehouse_id"]) for mark in marks})
            await metric_queries.lock_metrics(connection, items)
            day = await metric_queries.as_of(connection, self._today()) or datetime.now(UTC).date()
            metrics = await metric_queries.calculate(connection, items, day)
            await self._publish(connection, metrics, marks)
            await self._cache.write_levels(await metric_queries.levels(connection, items))
            await self._cache.write_metrics(metrics)
            failpoint("metrics.cached")
        CALCULATED.inc(len(items))
        return items[-1]

    async def _publish(
        self, connection: Connection, metrics: list[asyncpg.Record], marks: list[asyncpg.Record]
    ) -> None:
        buckets = {tuple(mark.values()) for mark in marks if mark["bucket_start"] is not None}
        facts = await metric_queries.hourly_facts(connection, buckets)
        now = datetime.now(UTC)
        await outbox.enqueue(
            connection,
            [
                *(metric_events.inventory_processed(fact, now) for fact in facts),
                *(metric_events.velocity_calculated(metric) for metric in metrics),
                *(metric_events.trend_analyzed(metric) for metric in metrics),
            ],
        )

    async def _write_whole_cache(self) -> None:
        limit = self._settings.metrics_batch_items
        async with acquired(self._pool) as connection:
            after = _BEFORE_ALL
            while levels := await metric_queries.levels_page(connection, after, limit):
                await self._cache.write_levels(levels)
                after = levels[-1]["sku"], levels[-1]["warehouse_id"]
            after = _BEFORE_ALL
            while metrics := await metric_queries.metrics_page(connection, after, limit):
                await self._cache.write_metrics(metrics)
                after = metrics[-1]["sku"], metrics[-1]["warehouse_id"]
            revision = await metric_queries.next_revision(connection)
            await self._cache.write_top_movers(await metric_queries.top_movers(connection, TOP_MOVERS), revision)

    async def _delete_gone(self) -> None:
        """Delete what Postgres does not have. It is asked after Redis: what others write meanwhile is there, or new."""
        async with acquired(self._pool) as connection:
            for prefix, read in (cache.LEVELS, metric_queries.levels), (cache.METRICS, metric_queries.metrics):
                async for values in self._cache.stored(prefix):
                    kept = {(row["sku"], row["warehouse_id"]) for row in await read(connection, list(values))}
                    await self._cache.delete(prefix, {item: values[item] for item in values.keys() - kept})

    def _today(self) -> date | None:
        """The UTC date, None when the clock of the events counts."""
        return datetime.now(UTC).date() if self._settings.metrics_clock == "wall" else None


async def run(stop: asyncio.Event, settings: Settings) -> None:
    """Calculate until asked to stop."""
    pool = await open_pool(
        settings.database_url.get_secret_value(),
        size=2,
        application_name="pipeline-metrics",
        statement_timeout_ms=60_000,
        lock_timeout_ms=30_000,
    )
    store = Cache(settings.redis_url.get_secret_value())
    try:
        await Metrics(settings, pool, store).run(stop)
    finally:
        await store.close()
        await pool.close()


async def rebuild_cache(settings: Settings) -> None:
    """Have Redis hold what Postgres holds, then end."""
    pool = await open_pool(settings.database_url.get_secret_value(), size=1, application_name="pipeline-rebuild-cache")
    store = Cache(settings.redis_url.get_secret_value())
    try:
        await Metrics(settings, pool, store).rebuild_cache()
    finally:
        await store.close()
        await pool.close()
