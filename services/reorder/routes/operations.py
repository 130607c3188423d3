"""How the service's own consumer and outbox are doing."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiokafka import TopicPartition
from fastapi import APIRouter, Request

from libs.chassis.database import ReadConnection
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging
from libs.events import lag, offsets, outbox
from services.reorder.consumer import GROUP, TOPICS
from services.reorder.queries import dead_letters
from services.reorder.routes.parameters import Operator

router = APIRouter(prefix="/api/v1", tags=["operations"])


class ConsumerOut(ApiModel):
    """Where the group stands in one partition."""

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


class DeadLetterOut(ApiModel):
    """A record that could not be applied. Its bytes are kept, and mirrored to `<topic>.dlq`."""

    id: int
    group: str
    topic: str
    partition: int
    offset: int
    event_type: str | None
    event_id: str | None
    error_class: str
    error: str
    status: str
    record_timestamp: datetime
    created_at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "DeadLetterOut":
        """The dead letter in a row."""
        return cls(**row)


@router.get("/consumers")
async def list_consumers(request: Request, connection: ReadConnection, principal: Operator) -> Page[ConsumerOut]:
    """Every partition that the service consumes, with its lag in records."""
    kafka = request.app.state.settings.kafka
    ends = await lag.end_offsets(kafka, [kafka.topic(topic.name) for topic in TOPICS])
    rows = await offsets.positions(connection, GROUP)
    known = {TopicPartition(row["topic"], row["partition"]): dict(row) for row in rows}
    return Page(
        items=[_consumer(place, end, known.get(place)) for place, end in sorted(ends.items())], next_cursor=None
    )


@router.get("/outbox")
async def get_outbox(connection: ReadConnection, principal: Operator) -> OutboxOut:
    """How many events wait to be published, and for how long the oldest has."""
    waiting = await outbox.depth(connection)
    return OutboxOut(depth=waiting.depth, oldest_age_seconds=waiting.oldest_age_seconds)


@router.get("/dead-letters")
async def list_dead_letters(connection: ReadConnection, paging: Paging, principal: Operator) -> Page[DeadLetterOut]:
    """Records that could not be applied, the latest first."""
    return paging.page(await dead_letters.list_dead_letters(connection, paging), ("id",), DeadLetterOut.of)


def _consumer(place: TopicPartition, end: int, row: Mapping[str, Any] | None) -> ConsumerOut:
    next_offset = row["next_offset"] if row else None
    return ConsumerOut(
        group=GROUP,
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
