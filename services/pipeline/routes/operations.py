"""How the service's own consumers, metrics and outbox are doing."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Literal

from aiokafka import TopicPartition
from fastapi import APIRouter, Request

from libs.chassis.database import Connection, ReadConnection
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page
from libs.events import lag, offsets, outbox
from libs.events.topics import INVENTORY_EVENTS, TOPICS
from services.pipeline import archive, metric_queries, stream
from services.pipeline.routes.access import Operator, Reader
from services.pipeline.settings import Settings

router = APIRouter(prefix="/api/v1", tags=["operations"])

TOPICS_OF_GROUP = {
    stream.GROUP: (INVENTORY_EVENTS,),
    archive.GROUP: TOPICS,
}


class ConsumerOut(ApiModel):
    """Where a group stands in one partition."""

    group: str
    topic: str
    partition: int
    next_offset: int | None
    end_offset: int
    lag: int
    epoch: int
    owner: str | None
    updated_at: datetime | None
    max_event_time: datetime | None


class OutboxOut(ApiModel):
    """What waits to be published."""

    depth: int
    oldest_age_seconds: float


class ClockOut(ApiModel):
    """Which day it is for every metric, and how far the calculation has come."""

    as_of: date | None
    mode: Literal["wall", "event"]
    calculated_as_of: date | None
    dirty_stock_items: int


class MetricsBacklogOut(ApiModel):
    """Stock items that wait to be calculated."""

    depth: int


@router.get("/consumers")
async def list_consumers(request: Request, connection: ReadConnection, principal: Operator) -> Page[ConsumerOut]:
    """Every partition that the groups of this service consume, with the lag in records."""
    kafka = request.app.state.settings.kafka
    ends = await lag.end_offsets(kafka, [kafka.topic(topic.name) for topic in TOPICS])
    items = []
    for group, topics in TOPICS_OF_GROUP.items():
        names = {kafka.topic(topic.name) for topic in topics}
        rows = await offsets.positions(connection, group)
        known = {TopicPartition(row["topic"], row["partition"]): dict(row) for row in rows}
        places = sorted(place for place in ends if place.topic in names)
        items += [_consumer(group, place, ends[place], known.get(place)) for place in places]
    return Page(items=items, next_cursor=None)


@router.get("/outbox")
async def get_outbox(connection: ReadConnection, principal: Operator) -> OutboxOut:
    """How many events wait to be published, and for how long the oldest has."""
    waiting = await outbox.depth(connection)
    return OutboxOut(depth=waiting.depth, oldest_age_seconds=waiting.oldest_age_seconds)


@router.get("/clock")
async def get_clock(request: Request, connection: ReadConnection, principal: Reader) -> ClockOut:
    """The day up to which every window reaches: today (UTC), or the latest date among ledger events."""
    settings: Settings = request.app.state.settings
    return ClockOut(
        as_of=await metric_queries.as_of(connection, _today(settings)),
        mode=settings.metrics_clock,
        calculated_as_of=await metric_queries.calculated_as_of(connection),
        dirty_stock_items=await _waiting_items(connection, settings),
    )


@router.get("/metrics-backlog")
async def get_metrics_backlog(request: Request, connection: ReadConnection, principal: Operator) -> MetricsBacklogOut:
    """How many stock items wait to be calculated, be it because they changed or because the day advanced."""
    return MetricsBacklogOut(depth=await _waiting_items(connection, request.app.state.settings))


async def _waiting_items(connection: Connection, settings: Settings) -> int:
    day = await metric_queries.as_of(connection, _today(settings))
    calculated = await metric_queries.calculated_as_of(connection)
    dirty = await metric_queries.count_dirty(connection)
    if day is None or calculated is None or calculated >= day:
        return dirty
    return max(dirty, await metric_queries.count_active(connection, calculated))


def _today(settings: Settings) -> date | None:
    return datetime.now(UTC).date() if settings.metrics_clock == "wall" else None


def _consumer(group: str, place: TopicPartition, end: int, row: Mapping[str, Any] | None) -> ConsumerOut:
    next_offset = row["next_offset"] if row else None
    return ConsumerOut(
        group=group,
        topic=place.topic,
        partition=place.partition,
        next_offset=next_offset,
        end_offset=end,
        lag=max(0, end - (next_offset or 0)),
        epoch=row["epoch"] if row else 0,
        owner=row["owner"] if row else None,
        updated_at=row["updated_at"] if row else None,
        max_event_time=row["max_event_time"] if row else None,
    )
