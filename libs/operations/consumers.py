"""`/consumers`: how far each consumer group of a service has come, and which events have not arrived."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated

from aiokafka import TopicPartition
from fastapi import APIRouter, Request
from pydantic import Field

from libs.chassis.auth import Principal, require
from libs.chassis.database import acquired
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page
from libs.events import lag, offsets
from libs.events.envelope import Sku, WarehouseId, stock_item_key
from libs.events.postgres import as_ranges
from libs.events.producer import partition_of
from libs.events.topics import INVENTORY_EVENTS, Topic

Operator = Annotated[Principal, require("ops:read")]

MOST_GAPS = 20
"""Gaps shown of one partition."""


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
    last_error: str | None = None
    last_error_at: datetime | None = None
    dead_letters_in_a_row: int = 0


Positions = Callable[[Request, str], Awaitable[Sequence[Position]]]
"""The positions of a group, read from wherever the service keeps them."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Ledger entries of a stock item that have not arrived, though later ones have. Both ends belong to it."""

    sku: str
    warehouse_id: str
    first_sequence: int
    last_sequence: int


Gaps = Callable[[Request], Awaitable[Sequence[Gap]]]
"""Every gap that is open, in order of the stock items."""


class GapOut(ApiModel):
    """Ledger entries of a stock item that have not arrived, though later ones have. Both ends belong to it."""

    sku: Sku
    warehouse_id: WarehouseId
    first_sequence: int
    last_sequence: int


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
    is_paused: Annotated[bool, Field(description="Whether its records wait for a write that is tried again.")]
    last_error: Annotated[str | None, Field(description="Why that write was put off.")]
    last_error_at: datetime | None
    dead_letters_in_a_row: Annotated[
        int, Field(description="Records before the next one that became dead letters. At 100 an alarm is raised.")
    ]
    missing_entries: Annotated[
        int | None,
        Field(
            description="Ledger entries that have not arrived, though later ones of their stock items have. "
            "Null where the group does not count them."
        ),
    ]
    gaps: Annotated[list[GapOut], Field(description=f"Where they are missing, the first {MOST_GAPS}.")]


def router(
    groups: Mapping[str, Sequence[Topic]], positions: Positions, gaps: Mapping[str, Gaps] | None = None
) -> APIRouter:
    """Routes for these groups and the topics that each reads; `gaps` for the groups that count ledger entries."""
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
            missing = None
            if gaps and group in gaps:
                missing = _by_place(await gaps[group](request), kafka.topic(INVENTORY_EVENTS.name), places)
            items += [_consumer(group, place, ends[place], known.get(place), missing) for place in places]
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
            row["last_error"],
            row["last_error_at"],
            row["dead_letters_in_a_row"],
        )
        for row in rows
    ]


def gaps_in(table: str) -> Gaps:
    """The gaps of the stock items in a table of the service's own schema, which has the column `missing`."""

    async def read(request: Request) -> list[Gap]:
        async with acquired(request.app.state.pool) as connection:
            rows = await connection.fetch(
                f"SELECT sku, warehouse_id, missing FROM {table} WHERE NOT isempty(missing) ORDER BY sku, warehouse_id"
            )
        return [
            Gap(row["sku"], row["warehouse_id"], start, end - 1)
            for row in rows
            for start, end in as_ranges(row["missing"])
        ]

    return read


def _by_place(gaps: Sequence[Gap], topic: str, places: Collection[TopicPartition]) -> dict[TopicPartition, list[Gap]]:
    """Gaps by the partition that carries the events of their stock items, a list for every partition of the topic."""
    partitions = tuple(sorted(place.partition for place in places if place.topic == topic))
    found: dict[TopicPartition, list[Gap]] = {TopicPartition(topic, partition): [] for partition in partitions}
    for gap in gaps:
        key = stock_item_key(gap.warehouse_id, gap.sku).encode()
        found[TopicPartition(topic, partition_of(key, partitions))].append(gap)
    return found


def _consumer(
    group: str,
    place: TopicPartition,
    end: int,
    at: Position | None,
    missing: Mapping[TopicPartition, Sequence[Gap]] | None,
) -> ConsumerOut:
    next_offset = at.next_offset if at else None
    gaps = missing.get(place) if missing is not None else None
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
        is_paused=at is not None and at.last_error is not None,
        last_error=at.last_error if at else None,
        last_error_at=at.last_error_at if at else None,
        dead_letters_in_a_row=at.dead_letters_in_a_row if at else 0,
        missing_entries=None if gaps is None else sum(gap.last_sequence - gap.first_sequence + 1 for gap in gaps),
        gaps=[GapOut(**asdict(gap)) for gap in (gaps or ())[:MOST_GAPS]],
    )
