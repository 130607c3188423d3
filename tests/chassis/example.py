"""A small service on the chassis, as the tests' subject."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

import asyncpg
from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import AfterValidator, Field
from sqlalchemy import BigInteger, Column, MetaData, Table, Text, select

from libs.chassis import database, etag
from libs.chassis.app import create_app
from libs.chassis.auth import Principal, require
from libs.chassis.database import ReadConnection, WriteConnection
from libs.chassis.etag import IfMatch
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging, keyset
from libs.chassis.settings import ServiceSettings

SCHEMA = """
CREATE TABLE parcel (
    parcel_id bigint CONSTRAINT parcel_pkey PRIMARY KEY,
    label text NOT NULL,
    weight integer NOT NULL CONSTRAINT parcel_weight_check CHECK (weight >= 0),
    owner_id bigint CONSTRAINT parcel_unmapped_check CHECK (owner_id > 0),
    CONSTRAINT parcel_label_key UNIQUE (label) DEFERRABLE INITIALLY DEFERRED
)
"""

parcels = Table("parcel", MetaData(), Column("parcel_id", BigInteger), Column("label", Text))


class Refused(Exception):
    """A rule error that knows nothing of HTTP."""

    errors = ({"pointer": "/lines/0", "detail": "1 available, 2 asked"},)
    retry_after_seconds = 7


class VeryRefused(Refused):
    """Answered as its parent."""


class Box(ApiModel):
    kind: Literal["box"]
    quantity_change: int


class Crate(ApiModel):
    kind: Literal["crate"]
    crate_number: int


class LineIn(ApiModel):
    quantity_change: int
    notes: str | None = None


class DocumentIn(ApiModel):
    document_id: UUID
    occurred_at: datetime | None = None
    unit_cost: Decimal | None = None
    lines: list[LineIn] = Field(default_factory=list)
    packages: list[Annotated[Box | Crate, Field(discriminator="kind")]] = Field(default_factory=list)


class DocumentOut(ApiModel):
    document_id: UUID
    line_count: int


def not_shouting(label: str) -> str:
    """The label, unless it is all upper case."""
    if label.isupper():
        raise ValueError("do not shout")
    return label


class ParcelIn(ApiModel):
    parcel_id: int
    label: Annotated[str, AfterValidator(not_shouting)]
    weight: int = 0
    owner_id: int = 1


class ParcelOut(ApiModel):
    parcel_id: int
    label: str

    @classmethod
    def of(cls, row: asyncpg.Record) -> "ParcelOut":
        return cls(parcel_id=row["parcel_id"], label=row["label"])


router = APIRouter(prefix="/api/v1", tags=["examples"])


@router.post("/documents", status_code=201)
async def post_document(body: DocumentIn, principal: Annotated[Principal, require("example:write")]) -> DocumentOut:
    """Post a document."""
    return DocumentOut(document_id=body.document_id, line_count=len(body.lines))


@router.get("/documents/{document_id}")
async def get_document(document_id: UUID, depth: Annotated[int, Query(ge=0)] = 0) -> DocumentOut:
    """One document."""
    return DocumentOut(document_id=document_id, line_count=depth)


@router.get("/things/{thing:path}")
async def get_thing(thing: str) -> dict[str, str]:
    """Anything below a path."""
    return {"thing": thing}


@router.get("/labels/{number}")
async def get_label(
    number: int,
    principal: Annotated[Principal, require("example:read")],
    size: Annotated[int, Query(ge=1)],
    copies: Annotated[int, Query(ge=1)] = 1,
) -> Response:
    """A whole answer that takes parameters and the caller only."""
    return Response(f"{number} {size} {copies} {principal.name}")


@router.put("/things/{thing:path}")
async def put_thing(thing: str, if_match: IfMatch) -> dict[str, str]:
    """An edit that needs the version it edits, which is 3."""
    etag.check(if_match, 3)
    return {"thing": thing}


@router.post("/uploads")
async def post_upload(request: Request) -> dict[str, int]:
    """Any media type."""
    return {"bytes": len(await request.body())}


@router.post("/refusals")
async def post_refusal() -> None:
    """Always refused by a rule."""
    raise VeryRefused("LAPTOP-001 in BERLIN-1: 1 available, 2 asked")


@router.post("/bugs")
async def post_bug() -> None:
    """Always fails."""
    raise RuntimeError("secret internals")


@router.post("/parcels", status_code=201)
async def post_parcel(body: ParcelIn, connection: WriteConnection) -> ParcelOut:
    """Store a parcel."""
    await connection.execute(
        "INSERT INTO parcel (parcel_id, label, weight, owner_id) VALUES ($1, $2, $3, $4)",
        body.parcel_id,
        body.label,
        body.weight,
        body.owner_id,
    )
    return ParcelOut(parcel_id=body.parcel_id, label=body.label)


@router.get("/parcels")
async def get_parcels(connection: ReadConnection, paging: Paging) -> Page[ParcelOut]:
    """Parcels by label."""
    statement = keyset(select(parcels.c.parcel_id, parcels.c.label), [parcels.c.label, parcels.c.parcel_id], paging)
    rows = await database.fetch_all(connection, statement)
    return paging.page(rows, ["label", "parcel_id"], ParcelOut.of)


@router.get("/miscounts")
async def get_miscount(connection: ReadConnection, at_least: Annotated[int, Query()] = 2**31) -> None:
    """A query with a value that its type cannot hold."""
    await connection.execute("SELECT $1::integer", at_least)


@router.delete("/parcels")
async def delete_parcels(connection: ReadConnection) -> None:
    """A route that writes where it may only read."""
    await connection.execute("DELETE FROM parcel")


async def no_dependencies(_app: FastAPI) -> dict[str, str]:
    """Readiness of a service without dependencies."""
    return {"database": "ok", "cache": "degraded: cold"}


def create_example(settings: ServiceSettings) -> FastAPI:
    """The example without a database."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield

    return create_app(
        title="Example <service>",
        description="A service of the tests.",
        settings=settings,
        lifespan=lifespan,
        routers=[router],
        refusals={Refused: (409, "insufficient-stock")},
        constraints={
            "parcel_label_key": (409, "label-taken", "Another parcel has this label."),
            "parcel_weight_check": (422, "negative-weight", "A parcel cannot weigh less than nothing."),
        },
        readiness=no_dependencies,
    )
