"""Categories: created, revised, archived, never deleted."""

from typing import Annotated

import asyncpg
from fastapi import APIRouter, Query, Response
from sqlalchemy import select

from libs.chassis.database import ReadConnection, WriteConnection, fetch_all
from libs.chassis.etag import IfMatch, etag
from libs.chassis.paging import Page, Paging, keyset
from libs.chassis.replay import mark_replayed
from services.inventory import catalogue, tables
from services.inventory.queries.catalogue import category_path
from services.inventory.routes.access import Operator, Reader, leads_to, refusals
from services.inventory.routes.idempotency import Once
from services.inventory.schemas.catalogue import (
    CategoryId,
    CategoryIn,
    CategoryOut,
    CategoryPatch,
    CategoryPathOut,
    Status,
)
from services.inventory.schemas.fields import request_hash

router = APIRouter(prefix="/api/v1/categories", tags=["categories"], responses=refusals(409, 412, 428))
category = tables.category


NEXT = leads_to("category_id", "categoryId", "get_category", "revise_category", "archive_category")


@router.post("", status_code=201, responses={200: {"model": CategoryOut, "description": "Created before"}, 201: NEXT})
async def create_category(
    body: CategoryIn, connection: WriteConnection, _principal: Operator, response: Response
) -> CategoryOut:
    """Create a category. The same body again changes nothing and answers 200."""
    row, replayed = await catalogue.create(connection, category, body.model_dump(), request_hash(body))
    if replayed:
        mark_replayed(response)
    return _answer(row, response)


@router.get("")
async def list_categories(
    connection: ReadConnection,
    _principal: Reader,
    paging: Paging,
    parent_id: Annotated[CategoryId | None, Query(alias="parentId")] = None,
    status: Annotated[Status | None, Query()] = None,
) -> Page[CategoryOut]:
    """Categories in the order of their ids."""
    statement = select(*category.c)
    if parent_id is not None:
        statement = statement.where(category.c.parent_id == parent_id)
    if status is not None:
        statement = statement.where(category.c.status == status)
    rows = await fetch_all(connection, keyset(statement, [category.c.category_id], paging))
    return paging.page(rows, ["category_id"], CategoryOut.of)


@router.post("/{category_id}/archive")
async def archive_category(
    category_id: CategoryId, connection: WriteConnection, _principal: Operator, once: Once, response: Response
) -> CategoryOut:
    """Take a category out of use. Refused while active products or categories belong to it."""
    if await once.is_repeated(connection):
        return _answer(await catalogue.find(connection, category, category_id), response)
    return _answer(await catalogue.archive_category(connection, category_id), response)


@router.get("/{category_id}")
async def get_category(
    category_id: CategoryId, connection: ReadConnection, _principal: Reader, response: Response
) -> CategoryPathOut:
    """One category."""
    row = await catalogue.find(connection, category, category_id)
    response.headers["ETag"] = etag(row["version"])
    path = await category_path(connection, category_id)
    return CategoryPathOut.of({**row, "path": path})


@router.patch("/{category_id}")
async def revise_category(
    category_id: CategoryId,
    body: CategoryPatch,
    connection: WriteConnection,
    _principal: Operator,
    if_match: IfMatch,
    response: Response,
) -> CategoryOut:
    """Change fields of a category; those left out stay."""
    changes = body.model_dump(exclude_unset=True)
    if "parent_id" in changes:
        row = await catalogue.move_category(connection, category_id, changes, if_match)
    else:
        row = await catalogue.revise(connection, category, category_id, changes, if_match)
    return _answer(row, response)


def _answer(row: asyncpg.Record, response: Response) -> CategoryOut:
    response.headers["ETag"] = etag(row["version"])
    return CategoryOut.of(row)
