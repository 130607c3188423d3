"""Kafka records to events: by column where all fields of an event are there, the others record by record."""

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from aiokafka import ConsumerRecord
from msgspec import Struct
from pydantic import TypeAdapter, ValidationError

from libs.events.envelope import BaseEvent
from libs.events.inventory import ExternalInventoryUpdate
from libs.events.topics import INVENTORY_EVENTS, Topic

_EXTERNAL = TypeAdapter(ExternalInventoryUpdate)


class Received(NamedTuple):
    """One decoded record."""

    offset: int
    event: BaseEvent
    record: ConsumerRecord


@dataclass(frozen=True, slots=True)
class Poison:
    """One record that cannot be applied, kept whole."""

    offset: int
    record: ConsumerRecord
    error_class: str
    error: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a batch of records turned out to be; each record is counted in exactly one of the three."""

    received: list[Received]
    poison: list[Poison]
    skipped: int
    """Well-formed events of a type that this version does not know."""


class NotAnEvent(ValueError):
    """The bytes of a record are not a JSON object with an event type."""


def decode(topic: Topic, records: Sequence[ConsumerRecord]) -> Decoded:
    """Decode records of one topic, in order: many at once where that can be done, the others one by one."""
    events = _decode_by_column(topic, records)
    received, poisoned, skipped = [], [], 0
    for index, record in enumerate(records):
        event = events.get(index)
        if event is None:
            try:
                event = _decode_one(topic, record.value or b"")
            except (ValidationError, NotAnEvent) as error:
                poisoned.append(poison(record, error))
                continue
        if event is None:
            skipped += 1
        else:
            received.append(Received(record.offset, event, record))
    return Decoded(received, poisoned, skipped)


def _decode_by_column(topic: Topic, records: Sequence[ConsumerRecord]) -> dict[int, BaseEvent]:
    """Index -> event. Left out is what has another form, and all records of a type when one of them is not valid."""
    read = topic.reader.decode
    rows: dict[type[Struct], dict[int, Struct]] = defaultdict(dict)
    for index, record in enumerate(records):
        try:
            row = read(record.value or b"")
        except (ValueError, RecursionError):
            continue
        rows[type(row)][index] = row
    events: dict[int, BaseEvent] = {}
    for kind, columns in topic.columns.items():
        if found := rows.get(kind):
            with suppress(ValueError):
                events.update(zip(found, columns.events(list(found.values())), strict=True))
    return events


@cache
def _field_names(model: type[BaseEvent]) -> set[str]:
    return set(model.model_fields)


def poison(record: ConsumerRecord, error: BaseException) -> Poison:
    """The record as a dead letter, with the reason."""
    return Poison(record.offset, record, type(error).__name__, str(error))


def _decode_one(topic: Topic, value: bytes) -> BaseEvent | None:
    """The event, or None when its type is unknown here. Raises ValidationError or NotAnEvent."""
    try:
        return _with_shared_names(topic.single.validate_json(value))
    except ValidationError as invalid:
        try:
            fields = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise NotAnEvent(f"not JSON: {error}") from error
        if not isinstance(fields, dict) or not isinstance(fields.get("eventType"), str):
            raise NotAnEvent("not a JSON object with an eventType") from invalid
        if fields["eventType"] not in topic.event_types:
            return None
        if topic is INVENTORY_EVENTS and fields["eventType"] == "INVENTORY_UPDATE" and fields.get("sequence") is None:
            return _with_shared_names(_EXTERNAL.validate_json(value))
        raise


def _with_shared_names(event: BaseEvent) -> BaseEvent:
    """The event with its class's set of field names: each has its own otherwise, two thirds of its memory."""
    object.__setattr__(event, "__pydantic_fields_set__", _field_names(type(event)))
    return event
