"""The base of request and response bodies."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, LiteralString, Self

import asyncpg
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, ValidatorFunctionWrapHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# A cheap look at the raw bytes tells whether a body can hold what Postgres cannot store; only then is it walked.
_SUSPECT = re.compile(rb"\\u0000|\d{19}")


class ApiModel(BaseModel):
    """A request or response body: camelCase on the wire, snake_case in Python, exact types, unknown fields refused.

    A body that arrives as bytes is validated as JSON, so strict types still take UUIDs, instants and decimals from
    JSON strings. Text with NUL characters and integers beyond 64 bits are refused, because Postgres cannot store them.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        strict=True,
        extra="forbid",
        frozen=True,
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        # FastAPI validates a body with a type adapter of its own around the finished class. Only there are bytes
        # accepted: a wrapper around fields would call Python once per line of a document.
        if not cls.__pydantic_complete__ or handler.field_name is not None:
            return schema
        return core_schema.no_info_wrap_validator_function(cls._validate_body, schema)

    @classmethod
    def _validate_body(cls, value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        if not isinstance(value, bytes):
            return validate(value)
        body = cls.model_validate_json(value, by_alias=True, by_name=False)
        if _SUSPECT.search(value) and (unstorable := list(_unstorable(json.loads(value), ()))):
            raise ValidationError.from_exception_data(cls.__name__, unstorable)
        return body


class RowModel(ApiModel):
    """A response body made from a database row, whose enums are text."""

    model_config = ConfigDict(strict=False)

    @classmethod
    def of(cls, row: asyncpg.Record | Mapping[str, Any]) -> Self:
        """The body with the columns of the row that it has fields for."""
        return cls(**{name: row[name] for name in cls.model_fields})


def _unstorable(value: Any, loc: tuple[str | int, ...]) -> Iterator[InitErrorDetails]:
    match value:
        case dict():
            for key, item in value.items():
                yield from _unstorable(item, (*loc, key))
        case list():
            for index, item in enumerate(value):
                yield from _unstorable(item, (*loc, index))
        case str() if "\x00" in value:
            yield _refusal("nul_character", "Text must not contain NUL characters", loc, value)
        case int() if not INT64_MIN <= value <= INT64_MAX:
            yield _refusal("int_out_of_range", "Integers must fit in 64 bits", loc, value)


def _refusal(kind: LiteralString, message: LiteralString, loc: tuple[str | int, ...], value: Any) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError(kind, message), loc=loc, input=value)
