"""How the service's own consumer is doing."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiokafka import TopicPartition
from fastapi import APIRouter, Request

from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging
from libs.events import lag
from services.analytics.consumer import GROUP, TOPICS
from services.analytics.routes.parameters import History, Operator, sort_key

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


class DeadLetterOut(ApiModel):
    """A record that could not be applied. Its bytes are kept, and mirrored to `<topic>.dlq`."""

    id: str
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
    def of(cls, document: Mapping[str, Any]) -> "DeadLetterOut":
        """The dead letter in a document, without its bytes."""
        shown = {name: value for name, value in document.items() if name not in ("_id", "key", "value", "headers")}
        return cls(**shown, id=document["_id"])


@router.get("/consumers")
async def list_consumers(request: Request, history: History, principal: Operator) -> Page[ConsumerOut]:
    """Every partition that the service consumes, with its lag in records."""
    kafka = request.app.state.settings.kafka
    ends = await lag.end_offsets(kafka, [kafka.topic(topic.name) for topic in TOPICS])
    found = await history.checkpoints(GROUP)
    known = {TopicPartition(checkpoint["topic"], checkpoint["partition"]): checkpoint for checkpoint in found}
    items = [_consumer(place, end, known.get(place, {})) for place, end in sorted(ends.items())]
    return Page(items=items, next_cursor=None)


@router.get("/dead-letters")
async def list_dead_letters(history: History, paging: Paging, principal: Operator) -> Page[DeadLetterOut]:
    """Records that could not be applied, in order of topic, partition and offset."""
    after = sort_key(paging, str)
    letters = await history.dead_letters(after[0] if after else None, paging.limit + 1)
    return paging.page(letters, ("_id",), DeadLetterOut.of)


def _consumer(place: TopicPartition, end: int, checkpoint: Mapping[str, Any]) -> ConsumerOut:
    next_offset = checkpoint.get("nextOffset")
    return ConsumerOut(
        group=GROUP,
        topic=place.topic,
        partition=place.partition,
        next_offset=next_offset,
        end_offset=end,
        lag=max(0, end - (next_offset or 0)),
        epoch=checkpoint.get("epoch", 0),
        owner=checkpoint.get("owner"),
        updated_at=checkpoint.get("updatedAt"),
        max_event_time=checkpoint.get("maxEventTime"),
    )
