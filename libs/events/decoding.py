"""Kafka records to events: one validation call for a whole batch, record by record only when that fails."""

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import NamedTuple

from aiokafka import ConsumerRecord
from pydantic import TypeAdapter, ValidationError

from libs.events.envelope import BaseEvent
from libs.events.inventory import ExternalInventoryUpdate
from libs.events.topics import INVENTORY_EVENTS, Topic

_EXTERNAL = TypeAdapter(ExternalInventoryUpdate)
_offset = attrgetter("offset")


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
    """Decode records of one topic, in order.

    Each value is put behind a mark that nobody can know beforehand. Values that are not one whole JSON value each,
    so that together they would read as something else, make fewer pairs than there are records.
    """
    mark = secrets.token_hex(8)
    before = f'["{mark}",'.encode()
    try:
        joined = (b"]," + before).join(record.value for record in records)
        pairs = topic.batch.validate_json(b"[" + before + joined + b"]]")
    except (ValidationError, TypeError):
        return _decode_singly(topic, records)
    marks, events = zip(*pairs, strict=True)
    if len(events) != len(records) or set(marks) != {mark}:
        return _decode_singly(topic, records)
    _share_field_names(events)
    return Decoded(list(map(Received._make, zip(map(_offset, records), events, records, strict=True))), [], 0)


def _decode_singly(topic: Topic, records: Sequence[ConsumerRecord]) -> Decoded:
    decoded = Decoded([], [], 0)
    skipped = 0
    for record in records:
        try:
            event = _decode_one(topic, record.value)
        except (ValidationError, NotAnEvent) as error:
            decoded.poison.append(poison(record, error))
            continue
        if event is None:
            skipped += 1
        else:
            decoded.received.append(Received(record.offset, event, record))
    _share_field_names(item.event for item in decoded.received)
    return Decoded(decoded.received, decoded.poison, skipped)


def _share_field_names(events: Iterable[BaseEvent]) -> None:
    """Give events of one class one set of field names: each has its own otherwise, two thirds of its memory."""
    for event in events:
        object.__setattr__(event, "__pydantic_fields_set__", _field_names(type(event)))


@cache
def _field_names(model: type[BaseEvent]) -> set[str]:
    return set(model.model_fields)


def poison(record: ConsumerRecord, error: BaseException) -> Poison:
    """The record as a dead letter, with the reason."""
    return Poison(record.offset, record, type(error).__name__, str(error))


def _decode_one(topic: Topic, value: bytes | None) -> BaseEvent | None:
    """The event, or None when its type is unknown here. Raises ValidationError or NotAnEvent."""
    try:
        fields = json.loads(value or b"")
    except (ValueError, RecursionError) as error:
        raise NotAnEvent(f"not JSON: {error}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("eventType"), str):
        raise NotAnEvent("not a JSON object with an eventType")
    if fields["eventType"] not in topic.event_types:
        return None
    if topic is INVENTORY_EVENTS and fields["eventType"] == "INVENTORY_UPDATE" and fields.get("sequence") is None:
        return _EXTERNAL.validate_json(value or b"")
    return topic.single.validate_json(value or b"")
