"""`/consumers`: how far each consumer group of a service has come."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from aiokafka import TopicPartition
from fastapi import APIRouter, Depends, Request

from libs.chassis.auth import Principal, require
from libs.chassis.database import acquired
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page
from libs.events import lag, offsets
from libs.events.topics import Topic

Operator = Annotated[Principal, Depends(require("ops:read"))]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a group stands in one partition, as its own store tells."""

    topic: str
    partition: int
    next_offset: int | None
    epoch: int
    owner: str | None
    updated_at: datetime | None
    max_event_time: datetime | None


Positions = Callable[[Request, str], Awaitable[Sequence[Position]]]
"""The positions of a group, read from wherever the service keeps them."""


class ConsumerOut(ApiModel):
    """Where a group stands in one partition. Lag counts records, applied or not, that came after."""

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


def router(groups: Mapping[str, Sequence[Topic]], positions: Positions) -> APIRouter:
    """Routes for these groups and the topics that each reads."""
    routes = APIRouter(prefix="/api/v1/consumers", tags=["operations"])

    @routes.get("")
    async def list_consumers(request: Request, principal: Operator) -> Page[ConsumerOut]:
        """Every partition that the service consumes, with the lag in records."""
        kafka = request.app.state.settings.kafka
        read = {group: [kafka.topic(topic.name) for topic in topics] for group, topics in groups.items()}
        ends = await lag.end_offsets(kafka, {name for names in read.values() for name in names})
        items = []
        for group, names in read.items():
            known = {TopicPartition(at.topic, at.partition): at for at in await positions(request, group)}
            places = sorted(place for place in ends if place.topic in names)
            items += [_consumer(group, place, ends[place], known.get(place)) for place in places]
        return Page(items=items, next_cursor=None)

    return routes


async def in_postgres(request: Request, group: str) -> list[Position]:
    """Positions of a group whose offsets are kept in the service's own schema."""
    async with acquired(request.app.state.pool) as connection:
        rows = await offsets.positions(connection, group)
    return [
        Position(
            row["topic"],
            row["partition"],
            row["next_offset"],
            row["epoch"],
            row["owner"],
            row["updated_at"],
            row["max_event_time"],
        )
        for row in rows
    ]


def _consumer(group: str, place: TopicPartition, end: int, at: Position | None) -> ConsumerOut:
    next_offset = at.next_offset if at else None
    return ConsumerOut(
        group=group,
        topic=place.topic,
        partition=place.partition,
        next_offset=next_offset,
        end_offset=end,
        lag=max(0, end - (next_offset or 0)),
        epoch=at.epoch if at else 0,
        owner=at.owner if at else None,
        updated_at=at.updated_at if at else None,
        max_event_time=at.max_event_time if at else None,
    )
