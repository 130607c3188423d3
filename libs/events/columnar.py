"""Many events of one class at once: msgspec reads the JSON, pydantic validates column by column.

A model is validated field by field, so validating each distinct value of a column once gives what validating every
event would, for less than half of the time: skus, prices and notes repeat, and a call of pydantic has its price.
"""

import types
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.json import Decoder
from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter
from pydantic.alias_generators import to_camel

from libs.events.envelope import BaseEvent

_AS_STRINGS = (str, Decimal, AwareDatetime, StrEnum)
_TAG = "event_type"

_set_fields = BaseModel.__dict__["__dict__"].__set__
_set_names = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__


class NotColumnar(TypeError):
    """A model has a field that cannot be read by column."""


class Columns:
    """How events of one model are read.

    Raises NotColumnar for models with nested parts, validators of their own or several event types.
    """

    def __init__(self, model: type[BaseEvent]) -> None:
        if model.__pydantic_decorators__.model_validators or model.__pydantic_decorators__.field_validators:
            raise NotColumnar(f"{model.__name__} has validators of its own")
        event_type, *more = get_args(model.model_fields[_TAG].annotation)
        if more:
            raise NotColumnar(f"{model.__name__} has several event types")
        fields = {name: field for name, field in model.model_fields.items() if name != _TAG}
        on_the_wire = [(name, _on_the_wire(field.annotation)) for name, field in fields.items()]
        self.row: type[Struct] = msgspec.defstruct(
            model.__name__,
            on_the_wire,
            rename={name: str(field.alias) for name, field in fields.items()},
            tag_field=model.model_fields[_TAG].alias,
            tag=event_type,
            forbid_unknown_fields=True,
            gc=False,
        )
        """What msgspec reads: an event with every field of the model and no other, its values not validated yet."""
        self._model = model
        self._names = tuple(model.model_fields)
        self._event_type = event_type
        # msgspec's UUIDs are those of pydantic, which takes six times as long to make them.
        self._validate: list[tuple[int, TypeAdapter[list[Any]]]] = [
            (position, _list_of(field.rebuild_annotation()))
            for position, ((_, wire), field) in enumerate(zip(on_the_wire, fields.values(), strict=True))
            if wire is not UUID
        ]

    def events(self, rows: Sequence[Struct]) -> list[BaseEvent]:
        """The events of some rows. Raises ValueError when any is not valid, without saying which."""
        columns: list[Sequence[Any]] = list(zip(*map(msgspec.structs.astuple, rows), strict=True))
        for position, adapter in self._validate:
            columns[position] = _validated(columns[position], adapter)
        columns.insert(self._names.index(_TAG), [self._event_type] * len(rows))
        names = set(self._names)  # One for all events: each has its own otherwise, two thirds of its memory.
        events = []
        for values in zip(*columns, strict=True):
            event = object.__new__(self._model)
            _set_fields(event, dict(zip(self._names, values, strict=True)))
            _set_names(event, names)
            _set_extra(event, None)
            _set_private(event, None)
            events.append(event)
        return events


def columns_of(models: Sequence[type[BaseEvent]]) -> dict[type[Struct], Columns]:
    """Row -> columns of the models that can be read so."""
    found = {}
    for model in models:
        try:
            columns = Columns(model)
        except NotColumnar:
            continue
        found[columns.row] = columns
    return found


def reader_of(columns: Iterable[type[Struct]]) -> Decoder[Struct]:
    """Reads one event as one of these rows; raises ValueError or RecursionError where that cannot be done."""
    return Decoder(reduce(or_, columns, _NoEvent))


class _NoEvent(Struct, tag_field=to_camel(_TAG), tag=""):
    """Makes every reader one of several rows: msgspec demands the tag of an event only where it has to choose."""


def _list_of(annotation: Any) -> TypeAdapter[list[Any]]:
    column: Any = types.GenericAlias(list, (annotation,))
    return TypeAdapter(column, config=ConfigDict(strict=True))


def _validated(column: Sequence[Any], adapter: TypeAdapter[list[Any]]) -> Sequence[Any]:
    distinct = list(set(column))
    if len(distinct) > len(column) // 2:
        return adapter.validate_json(msgspec.json.encode(column))
    values = dict(zip(distinct, adapter.validate_json(msgspec.json.encode(distinct)), strict=True))
    return [values[value] for value in column]


def _on_the_wire(annotation: Any) -> Any:
    """What JSON of the type is read as. Floats are nested too: 0.0 and -0.0 would be one distinct value."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _on_the_wire(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return reduce(or_, [_on_the_wire(argument) for argument in get_args(annotation)])
    if origin is Literal:
        return reduce(or_, {_on_the_wire(type(value)) for value in get_args(annotation)})
    if annotation in (int, UUID, types.NoneType):
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, _AS_STRINGS):
        return str
    raise NotColumnar(f"{annotation} is not read by column")
