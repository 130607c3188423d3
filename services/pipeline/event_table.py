"""Events as rows: the Arrow schema of a topic, derived from its event models, and the rows of some events."""

import types
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin
from urllib.parse import quote
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AwareDatetime, BaseModel
from pydantic_core import to_json

from libs.events.envelope import BaseEvent
from libs.events.inventory import ExternalInventoryUpdate

NO_WAREHOUSE = "_none"
"""Where events about no single warehouse lie, because a folder needs a name."""

PARTITION_COLUMNS = ("date", "warehousePartition")

# File systems take names of 255 bytes, and the column's name stands before the value.
_LONGEST_FOLDER_NAME = 200
_HASHED = "~"
_RESERVED = (NO_WAREHOUSE, "__HIVE_DEFAULT_PARTITION__")

_PLACE: list[tuple[str, pa.DataType]] = [
    ("topic", pa.string()),
    ("partition", pa.int32()),
    ("offset", pa.int64()),
    ("date", pa.date32()),
    ("warehousePartition", pa.string()),
]
_SCALARS: dict[type, pa.DataType] = {
    str: pa.string(),
    UUID: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    Decimal: pa.decimal128(18, 6),
    AwareDatetime: pa.timestamp("us", tz="UTC"),
    date: pa.date32(),
    dict: pa.string(),
}

Convert = Callable[[Any], Any]


class Row(NamedTuple):
    """An event and where it stands in Kafka."""

    topic: str
    partition: int
    offset: int
    event: BaseEvent


@dataclass(frozen=True, slots=True)
class EventColumn:
    """A column of a topic's table: one field of its event models."""

    name: str
    """As on the wire."""
    attribute: str
    type: pa.DataType
    convert: Convert | None
    """What Arrow cannot take as it is; None leaves values alone."""


class EventTable:
    """How events of one topic lie in a table: every field of every model, under its name on the wire."""

    def __init__(self, models: Iterable[type[BaseEvent]]) -> None:
        self._columns = {model: _columns(model) for model in models}
        fields = dict(_PLACE)
        for column in (column for columns in self._columns.values() for column in columns):
            if fields.setdefault(column.name, column.type) != column.type:
                raise TypeError(f"{column.name} is {fields[column.name]} in one event and {column.type} in another")
        self.schema = pa.schema(list(fields.items()))

    def rows(self, rows: Sequence[Row]) -> pa.Table:
        """The rows of some events, grouped by event class."""
        by_model: dict[type[BaseEvent], list[Row]] = defaultdict(list)
        for row in rows:
            by_model[type(row.event)].append(row)
        return pa.Table.from_batches([self._batch(model, group) for model, group in by_model.items()], self.schema)

    def _batch(self, model: type[BaseEvent], rows: Sequence[Row]) -> pa.RecordBatch:
        arrays: dict[str, pa.Array[Any]] = {
            "topic": pa.array([row.topic for row in rows], pa.string()),
            "partition": pa.array([row.partition for row in rows], pa.int32()),
            "offset": pa.array([row.offset for row in rows], pa.int64()),
        }
        for column in self._columns[model]:
            values = [getattr(row.event, column.attribute) for row in rows]
            if column.convert is not None:
                values = [None if value is None else column.convert(value) for value in values]
            arrays[column.name] = pa.array(values, column.type)
        arrays["date"] = pc.cast(arrays["timestamp"], pa.date32())
        arrays["warehousePartition"] = pa.array([warehouse_partition(row.event.warehouse_id) for row in rows])
        return pa.RecordBatch.from_arrays(
            [arrays.get(field.name, pa.nulls(len(rows), field.type)) for field in self.schema], schema=self.schema
        )


@lru_cache(maxsize=10_000)
def warehouse_partition(warehouse_id: str | None) -> str:
    """The partition of a warehouse's events: its id, or `~` and a hash where the id is no fit name for a folder.

    A warehouse has one partition, and no other warehouse shares it.
    """
    if warehouse_id is None:
        return NO_WAREHOUSE
    too_long = len(quote(warehouse_id, safe="")) > _LONGEST_FOLDER_NAME
    if too_long or warehouse_id in _RESERVED or warehouse_id.startswith((_HASHED, ".")):
        return _HASHED + sha256(warehouse_id.encode()).hexdigest()[:32]
    return warehouse_id


def models_of(events: Iterable[type[BaseEvent]]) -> list[type[BaseEvent]]:
    """The models of a topic's events, and that of third parties where they may send some."""
    models = list(events)
    has_updates = any("INVENTORY_UPDATE" in get_args(model.model_fields["event_type"].annotation) for model in models)
    return [*models, ExternalInventoryUpdate] if has_updates else models


def _columns(model: type[BaseModel]) -> list[EventColumn]:
    return [_column(name, field) for name, field in model.model_fields.items()]


def _column(name: str, field: Any) -> EventColumn:
    # The warehouse of an event about none is typed None in its model, but is text in the table.
    annotation = str if name in ("sku", "warehouse_id") else field.annotation
    return EventColumn(field.serialization_alias or field.alias or name, name, _type(annotation), _convert(annotation))


def _plain(annotation: Any) -> Any:
    """The annotation without None, metadata and literals."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        (only,) = [argument for argument in get_args(annotation) if argument is not type(None)]
        return _plain(only)
    if origin is Literal:
        return type(get_args(annotation)[0])
    return dict if origin is dict else annotation


def _type(annotation: Any) -> pa.DataType:
    plain = _plain(annotation)
    if get_origin(plain) is list:
        return pa.list_(_type(get_args(plain)[0]))
    if issubclass(plain, BaseModel):
        return pa.struct([(column.name, column.type) for column in _columns(plain)])
    return next(arrow for python, arrow in _SCALARS.items() if issubclass(plain, python))


def _convert(annotation: Any) -> Convert | None:
    plain = _plain(annotation)
    if get_origin(plain) is list:
        return _convert_list(get_args(plain)[0])
    if issubclass(plain, BaseModel):
        return _convert_model(plain)
    converts: dict[Any, Convert] = {UUID: str, dict: _json}
    return converts.get(plain)


def _convert_list(annotation: Any) -> Convert | None:
    convert = _convert(annotation)
    return None if convert is None else lambda values: [convert(value) for value in values]


def _convert_model(model: type[BaseModel]) -> Convert:
    columns = _columns(model)

    def convert(value: Any) -> dict[str, Any]:
        values = {column: getattr(value, column.attribute) for column in columns}
        return {
            column.name: item if item is None or column.convert is None else column.convert(item)
            for column, item in values.items()
        }

    return convert


def _json(value: Any) -> str:
    return to_json(value).decode()
