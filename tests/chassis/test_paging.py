"""Lists in pages: complete, in order, and safe against made-up cursors."""

import base64
import json
from datetime import UTC, datetime
from uuid import UUID

import httpx
import pytest
from asyncpg import Record
from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text, Uuid, select
from starlette.requests import Request
from starlette.responses import Response

from libs.chassis.database import Pool, acquired, fetch_all
from libs.chassis.paging import KeyValue, PageRequest, decode_cursor, encode_cursor, keyset
from libs.chassis.problems import Problem
from tests.chassis.test_problems import problem

PARCELS = "/api/v1/parcels"
visits = Table(
    "visits",
    MetaData(),
    Column("name", Text),
    Column("at", DateTime(timezone=True)),
    Column("units", BigInteger),
    Column("id", Uuid),
)


@pytest.fixture
async def five_parcels(pool: Pool) -> None:
    """Five parcels labelled a to e."""
    await pool.executemany(
        "INSERT INTO parcel (parcel_id, label, weight) VALUES ($1, $2, 0)", list(enumerate("ecabd", start=1))
    )


def cursor_of(content: object) -> str:
    """A cursor as a meddler would write it."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.usefixtures("five_parcels")
async def test_following_the_cursor_gives_every_item_once_in_order(database_client: httpx.AsyncClient) -> None:
    labels, cursor = [], None
    while True:
        parameters = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await database_client.get(PARCELS, params=parameters)).json()
        labels += [item["label"] for item in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert labels == list("abcde")


@pytest.mark.usefixtures("five_parcels")
async def test_the_link_header_leads_to_the_next_page(database_client: httpx.AsyncClient) -> None:
    response = await database_client.get(PARCELS, params={"limit": 3})
    url, relation = response.headers["link"].split("; ")
    assert relation == 'rel="next"'
    following = await database_client.get(url.strip("<>"))
    assert [item["label"] for item in following.json()["items"]] == ["d", "e"]
    assert "link" not in following.headers


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "é",
        "!!!!",
        "",
        "AAAA",
        cursor_of({"a": 1}),
        cursor_of([]),
        cursor_of(None),
        cursor_of("/api/v1/parcels"),
        cursor_of([PARCELS]),
        cursor_of([PARCELS, "a"]),
        cursor_of([PARCELS, "a", "b"]),
        cursor_of([PARCELS, "a", 1, 2]),
        cursor_of([PARCELS, "a", True]),
        cursor_of([PARCELS, "a", 2**63]),
        cursor_of([PARCELS, "a\x00", 1]),
        cursor_of([PARCELS, "a\ud800", 1]),
        cursor_of([PARCELS, {"at": "soon"}, 1]),
        cursor_of([PARCELS, {"id": "x"}, 1]),
        cursor_of([PARCELS, None, 1]),
        cursor_of(["/api/v1/others", "a", 1]),
        base64.urlsafe_b64encode(b"[" * 40_000).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    ],
)
async def test_a_cursor_that_the_list_did_not_give_is_400(database_client: httpx.AsyncClient, cursor: str) -> None:
    problem(await database_client.get(PARCELS, params={"cursor": cursor}), 400, "invalid-cursor")


@pytest.mark.parametrize("limit", [0, -1, 501, "x", 10**30])
async def test_a_limit_outside_1_to_500_is_422(database_client: httpx.AsyncClient, limit: object) -> None:
    problem(await database_client.get(PARCELS, params={"limit": str(limit)}), 422, "validation-failed")


@pytest.mark.parametrize(
    "key",
    [
        ("a", 1),
        (datetime(2026, 7, 1, 12, 30, 15, 123456, tzinfo=UTC), UUID(int=7)),
        ("ü/+%☃", -(2**63)),
        ("",),
    ],
)
def test_a_cursor_carries_its_key_exactly(key: tuple[KeyValue, ...]) -> None:
    assert decode_cursor("/list", encode_cursor("/list", key)) == key


@pytest.mark.parametrize("order", ["name id", "-name -id", "-at name -id", "units -at id"])
async def test_composite_keys_in_any_direction_walk_through_all_rows(pool: Pool, order: str) -> None:
    key = [name.lstrip("-") for name in order.split()]
    columns = [visits.c[name[1:]].desc() if name.startswith("-") else visits.c[name] for name in order.split()]
    rows = [
        (name, datetime(2026, 7, day, tzinfo=UTC), units, UUID(int=number))
        for number, (name, day, units) in enumerate((n, d, u) for n in "ab" for d in (1, 2) for u in (5, 6))
    ]
    async with acquired(pool) as connection, connection.transaction():
        await connection.execute(
            "CREATE TEMPORARY TABLE visits (name text, at timestamptz, units bigint, id uuid) ON COMMIT DROP"
        )
        await connection.executemany("INSERT INTO visits VALUES ($1, $2, $3, $4)", rows)
        expected = await fetch_all(connection, select(visits).order_by(*columns))
        walked: list[Record] = []
        after: tuple[KeyValue, ...] | None = None
        while True:
            page = a_page_request(limit=3, after=after)
            found = await fetch_all(connection, keyset(select(visits), columns, page))
            walked += found[:3]
            if len(found) <= 3:
                break
            after = tuple(found[2][name] for name in key)
    assert walked == expected


@pytest.mark.parametrize("instant", ["2026-07-01T12:00:00", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_an_instant_that_cannot_be_compared_is_no_sort_key(instant: str) -> None:
    with pytest.raises(Problem) as caught:
        decode_cursor("/list", cursor_of(["/list", {"at": instant}]))
    assert (caught.value.status_code, caught.value.code) == (400, "invalid-cursor")


def test_a_key_of_other_types_is_refused() -> None:
    with pytest.raises(Problem):
        keyset(select(visits), [visits.c.units], a_page_request(limit=1, after=("text",)))


def a_page_request(*, limit: int, after: tuple[KeyValue, ...] | None) -> PageRequest:
    """What the Paging dependency gives."""
    return PageRequest(limit, after, Request({"type": "http"}), Response())
