"""Field types that several bodies share, and the hash that tells a repeated request from another one."""

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, PlainSerializer

from libs.chassis.model import ApiModel

MOST_UNITS_OF_A_LINE = 10**15
_MICRO = Decimal("0.000001")


def _plain(amount: Decimal) -> str:
    """The amount without exponent and trailing zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


_PLACES = (AfterValidator(lambda amount: amount.quantize(_MICRO)), PlainSerializer(_plain, return_type=str))

Money = Annotated[
    Decimal,
    Field(ge=0, lt=10**12, max_digits=18, decimal_places=6, description="Exact decimal; a string in every answer."),
    *_PLACES,
]

LinePrice = Annotated[
    Decimal,
    Field(
        gt=-(10**12),
        lt=10**12,
        max_digits=18,
        decimal_places=6,
        description="Exact decimal; a string in every answer. Negative where money goes the other way: a bad debt.",
    ),
    *_PLACES,
]

Instant = Annotated[
    AwareDatetime,
    Field(
        ge=datetime(1970, 1, 1, tzinfo=UTC),
        lt=datetime(9000, 1, 1, tzinfo=UTC),
        description="RFC 3339 with offset.",
    ),
    AfterValidator(lambda instant: instant.astimezone(UTC)),
]


def _is_no_number(value: Any) -> Any:
    if isinstance(value, str) and "t" not in value.lower():
        raise ValueError("not an RFC 3339 instant")
    return value


InstantParameter = Annotated[Instant, BeforeValidator(_is_no_number)]
"""An instant in a query: there pydantic would also take a number of seconds."""

Quantity = Annotated[int, Field(ge=0, le=MOST_UNITS_OF_A_LINE, description="Whole base units.")]
PositiveQuantity = Annotated[int, Field(gt=0, le=MOST_UNITS_OF_A_LINE, description="Whole base units.")]
QuantityChange = Annotated[
    int,
    Field(ge=-MOST_UNITS_OF_A_LINE, le=MOST_UNITS_OF_A_LINE, description="Whole base units; negative ones leave."),
]
Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"\S")]
Reference = Annotated[str, Field(max_length=256, description="The caller's own number: order, delivery note, ticket.")]
Notes = Annotated[str, Field(max_length=4096)]
Reason = Annotated[str, Field(min_length=1, max_length=256, pattern=r"\S")]
Source = Annotated[str, Field(min_length=1, max_length=64, pattern=r"\S", description="What kind of caller this is.")]


def request_hash(body: ApiModel, target: str = "") -> bytes:
    """SHA-256 of what is acted on and the body in canonical form.

    Equal for equal meaning, whatever the spelling of numbers and times.
    """
    return hashlib.sha256((target + body.model_dump_json(exclude_defaults=True)).encode()).digest()
