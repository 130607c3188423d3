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
    received, poisoned, skipped = [], [], 0
    for record, event in zip(records, _decode_by_column(topic, records), strict=True):
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


def _decode_by_column(topic: Topic, records: Sequence[ConsumerRecord]) -> list[BaseEvent | None]:
    """An event per record. None is what has another form, and all records of a type when one of them is not valid."""
    read = topic.reader.decode
    events: list[BaseEvent | None] = [None] * len(records)
    rows: dict[type[Struct], list[Struct]] = defaultdict(list)
    places: dict[type[Struct], list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        try:
            row = read(record.value or b"")
        except (ValueError, RecursionError):
            continue
        kind = type(row)
        rows[kind].append(row)
        places[kind].append(place)
    for kind, columns in topic.columns.items():
        if found := rows.get(kind):
            with suppress(ValueError):
                for place, event in zip(places[kind], columns.events(found), strict=True):
                    events[place] = event
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
