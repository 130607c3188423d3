"""Lists in pages: keyset cursors, which stay fast and stable while rows are added."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import starmap
from typing import Annotated, Any, Generic, Protocol, TypeVar
from urllib.parse import urlencode
from uuid import UUID

import asyncpg
import msgspec
from fastapi import Depends, Query
from sqlalchemy import ColumnElement, Select, UnaryExpression, and_, or_, tuple_
from sqlalchemy.sql.operators import desc_op
from starlette.requests import Request
from starlette.responses import Response

from libs.chassis.model import INT64_MAX, INT64_MIN, ApiModel
from libs.chassis.problems import Problem

DEFAULT_LIMIT = 50
MAX_LIMIT = 500

KeyValue = str | int | datetime | UUID
Item = TypeVar("Item")


class Row(Protocol):
    """A database row, or a dict that stands for one."""

    def __getitem__(self, name: str, /) -> Any: ...


RowType = TypeVar("RowType", bound=Row)


class Page(ApiModel, Generic[Item]):
    """One page of a list. Follow nextCursor until it is null."""

    items: list[Item]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page the caller asked for: at most `limit` rows after the sort key `after`."""

    limit: int
    after: tuple[KeyValue, ...] | None
    request: Request
    response: Response

    def page(self, rows: Sequence[RowType], key: Sequence[str], of: Callable[[RowType], Item]) -> Page[Item]:
        """The page of `rows`, of which there are `limit` + 1 when another page follows.

        `key` names the sort columns in the rows. Also sets the `Link: rel="next"` header.
        """
        cursor, headers = self._following(rows, key)
        self.response.headers.update(headers)
        return Page(items=[of(row) for row in rows[: self.limit]], next_cursor=cursor)

    def page_of_rows(self, rows: Sequence[asyncpg.Record], key: Sequence[str], body: type[ApiModel]) -> Response:
        """As `page`, already in JSON and without an object per row: the columns are the fields of `body`.

        Only for fields that are written just as the database's values are.
        """
        cursor, headers = self._following(rows, key)
        shown = rows[: self.limit]
        items = list(starmap(_shape(body, tuple(rows[0].keys())), shown)) if shown else []
        content = msgspec.json.encode({"items": items, "nextCursor": cursor})
        return Response(content, headers=headers, media_type="application/json")

    def _following(self, rows: Sequence[Row], key: Sequence[str]) -> tuple[str | None, dict[str, str]]:
        """The cursor of the page after this one, and the header that links to it."""
        if len(rows) <= self.limit:
            return None, {}
        cursor = encode_cursor(_list_name(self.request), [rows[self.limit - 1][name] for name in key])
        query = [(name, value) for name, value in self.request.query_params.multi_items() if name != "cursor"]
        url = f"{self.request.url.path}?{urlencode([*query, ('cursor', cursor)])}"
        return cursor, {"Link": f'<{url}>; rel="next"'}


@lru_cache
def _shape(body: type[ApiModel], columns: tuple[str, ...]) -> type[msgspec.Struct]:
    """What writes rows of these columns as `body` would: the same names, in the columns' order."""
    return msgspec.defstruct(body.__name__, [body.model_fields[column].alias or column for column in columns], gc=False)


async def _page_request(
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most items of one page.")] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(description="nextCursor of the page before.")] = None,
) -> PageRequest:
    after = None if cursor is None else decode_cursor(_list_name(request), cursor)
    return PageRequest(limit, after, request, response)


Paging = Annotated[PageRequest, Depends(_page_request)]
"""The `limit` and `cursor` of a list; 400 `invalid-cursor` for a cursor that this list did not give."""


def keyset(statement: Select[Any], columns: Sequence[ColumnElement[Any]], paging: PageRequest) -> Select[Any]:
    """The statement ordered by `columns` and cut to the asked page, plus one row that tells whether another follows.

    The columns are together unique and never null; `column.desc()` sorts downwards.
    """
    ordered = statement.order_by(*columns).limit(paging.limit + 1)
    if paging.after is None:
        return ordered
    _check_types(columns, paging.after)
    return ordered.where(_beyond(columns, paging.after))


def encode_cursor(list_name: str, key: Sequence[KeyValue]) -> str:
    """An opaque cursor that stands after `key` in this list."""
    content = json.dumps([list_name, *map(_to_json, key)], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).rstrip(b"=").decode()


def decode_cursor(list_name: str, cursor: str) -> tuple[KeyValue, ...]:
    """The sort key in a cursor of this list. Raises a `Problem` 400 `invalid-cursor` for anything else."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        name, *key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        values = tuple(_from_json(value) for value in key)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _invalid_cursor() from error
    if name != list_name or not values:
        raise _invalid_cursor()
    return values


def _list_name(request: Request) -> str:
    return str(request.scope["route"].path)


def _to_json(value: KeyValue) -> Any:
    match value:
        case datetime():
            return {"at": value.isoformat()}
        case UUID():
            return {"id": str(value)}
        case _:
            return value


def _from_json(value: Any) -> KeyValue:
    match value:
        case {"at": str(instant)}:
            return _instant(instant)
        case {"id": str(identifier)}:
            return UUID(identifier)
        case bool():
            raise ValueError("a cursor holds no booleans")
        case str():
            return _text(value)
        case int() if INT64_MIN <= value <= INT64_MAX:
            return value
        case _:
            raise ValueError("not a sort key")


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("an instant has an offset")
    return instant.astimezone(UTC)


def _text(value: str) -> str:
    if b"\x00" in value.encode():
        raise ValueError("Postgres stores no NUL characters")
    return value


def _check_types(columns: Sequence[ColumnElement[Any]], after: tuple[KeyValue, ...]) -> None:
    if len(columns) != len(after):
        raise _invalid_cursor()
    for column, value in zip(columns, after, strict=True):
        if not isinstance(value, _plain(column).type.python_type):
            raise _invalid_cursor()


def _beyond(columns: Sequence[ColumnElement[Any]], after: tuple[KeyValue, ...]) -> ColumnElement[bool]:
    """Rows after the key. One direction is a row comparison, which an index answers; mixed ones are spelled out."""
    plain = [_plain(column) for column in columns]
    downwards = [_is_descending(column) for column in columns]
    if len(set(downwards)) == 1:
        left, right = tuple_(*plain), tuple_(*after)
        return left < right if downwards[0] else left > right
    return or_(
        *(
            and_(
                *(plain[earlier] == after[earlier] for earlier in range(index)),
                plain[index] < after[index] if downwards[index] else plain[index] > after[index],
            )
            for index in range(len(plain))
        )
    )


def _is_descending(column: ColumnElement[Any]) -> bool:
    return isinstance(column, UnaryExpression) and column.modifier is desc_op


def _plain(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return column.element if isinstance(column, UnaryExpression) else column


def _invalid_cursor() -> Problem:
    return Problem(400, "invalid-cursor", "The cursor is not one that this list gave. Start again without a cursor.")
