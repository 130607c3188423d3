"""What every event has in common, and the ids that make an event the same event each time it is published."""

from datetime import UTC, datetime
from decimal import Decimal
from operator import methodcaller
from typing import Annotated, Any, LiteralString
from uuid import UUID, uuid5

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

_UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
_PRINTABLE_ID = rf"^[^\s{_UNPRINTABLE}]([^{_UNPRINTABLE}]{{0,62}}[^\s{_UNPRINTABLE}])?$"

_STORABLE = r"^[^\x00]*$"
"""Postgres stores every character but NUL."""


class _Refusal:
    """One text for every fault of a value, in place of pydantic's; no Python runs for values that are right."""

    def __init__(self, kind: LiteralString, detail: LiteralString) -> None:
        self._kind = kind
        self._detail = detail

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(handler(source), self._kind, custom_error_message=self._detail)


Identifier = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64, pattern=_PRINTABLE_ID),
    _Refusal("identifier", "Must be 1-64 printable characters, no blanks at the ends"),
]
Sku = Annotated[
    Identifier, Field(description="Stock keeping unit: 1-64 printable characters, exact and case-sensitive.")
]
WarehouseId = Annotated[
    Identifier, Field(description="Warehouse: 1-64 printable characters, exact and case-sensitive.")
]
Units = Annotated[int, Field(ge=-(2**63), lt=2**63, description="Whole base units, a signed 64-bit integer.")]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[int, Field(ge=1, lt=2**63)]
SmallNumber = Annotated[int, Field(ge=1, lt=2**31)]
Money = Annotated[Decimal, Field(max_digits=18, decimal_places=6, description="Exact decimal, a JSON string.")]
Instant = Annotated[
    AwareDatetime,
    Field(
        ge=datetime(1970, 1, 1, tzinfo=UTC),
        lt=datetime(9000, 1, 1, tzinfo=UTC),
        description="RFC 3339 instant of the years 1970 to 8999, sent in UTC.",
    ),
]
# Instants of one time zone object compare and subtract several times faster than those that bring their own.
_IN_UTC = AfterValidator(methodcaller("astimezone", UTC))
Figure = Annotated[float, Field(allow_inf_nan=False)]


def _storable(value: Any, levels: int = 50) -> Any:
    """The JSON value. Raises ValueError for what not every store can hold."""
    match value:
        case dict() | list() if levels == 0:
            raise ValueError("nested too deeply")
        case dict():
            for name, item in value.items():
                _storable(name)
                _storable(item, levels - 1)
        case list():
            for item in value:
                _storable(item, levels - 1)
        case str() if "\0" in value:
            raise ValueError("text with NUL")
        case int() if not -(2**63) <= value < 2**63:
            raise ValueError("an integer of more than 64 bits")
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_storable)]


class WireModel(BaseModel):
    """A part of an event: camelCase on the wire, exact types, fields of later versions ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        frozen=True,
        strict=True,
        extra="ignore",
    )


class BaseEvent(WireModel):
    """The eight fields that any producer knows. A message holding only these is a valid event."""

    event_id: UUID
    event_type: str
    sku: Sku | None
    warehouse_id: WarehouseId | None
    quantity_change: Units
    timestamp: Annotated[Instant, _IN_UTC, Field(description="When it happened in the business, not when it was sent.")]
    reference_id: Annotated[str, Field(max_length=256, pattern=_STORABLE)] | None = None
    notes: Annotated[str, Field(max_length=4096, pattern=_STORABLE)] | None = None
    schema_version: SmallNumber = 1


class Event(BaseEvent):
    """An event of ours: a past fact, immutable, identified by `event_id` for ever."""

    recorded_at: Annotated[Instant, Field(description="When the publishing service recorded it.")]
    source: Annotated[str, Field(min_length=1, max_length=64, description="`api`, `replay`, or the publishing job.")]

    @property
    def key(self) -> str:
        """The Kafka key: events of one key stay in order."""
        raise NotImplementedError


class StockItemEvent(Event):
    """An event about one sku in one warehouse."""

    sku: Sku
    warehouse_id: WarehouseId

    @property
    def key(self) -> str:
        return stock_item_key(self.warehouse_id, self.sku)


_NAMESPACE = UUID("5b0c4b7e-2d0a-5f5e-9c39-7c1f1d1f3f6a")


def escaped(identifier: str) -> str:
    """An id that may stand between colons in a key."""
    return identifier.replace("%", "%25").replace(":", "%3A") if "%" in identifier or ":" in identifier else identifier


def stock_item_key(warehouse_id: str, sku: str) -> str:
    """The Kafka key of every event about a stock item, so that its events stay in order."""
    return f"{escaped(warehouse_id)}:{escaped(sku)}"


def stock_item_event_id(event_type: str, warehouse_id: str, sku: str, number: int) -> UUID:
    """The id of the `number`-th event of a stock item: `sequence` for ledger entries, `revision` for level changes.

    Derived, so that publishing the same fact again, even after the broker was lost, gives the same event.
    """
    return uuid5(_NAMESPACE, f"{event_type}:{stock_item_key(warehouse_id, sku)}:{number}")


def document_event_id(event_type: str, document_id: UUID | str, revision: int) -> UUID:
    """The id of the event about one revision of a document."""
    return uuid5(_NAMESPACE, f"{event_type}:{document_id}:{revision}")
