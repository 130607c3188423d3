"""Products: created, revised, archived, never deleted."""

from typing import Annotated

import asyncpg
from fastapi import APIRouter, Query, Response
from sqlalchemy import select

from libs.chassis.database import ReadConnection, WriteConnection, fetch_all
from libs.chassis.etag import IfMatch, etag
from libs.chassis.paging import Page, Paging, keyset
from libs.chassis.replay import mark_replayed
from services.inventory import catalogue, tables
from services.inventory.routes.access import Operator, Reader, SkuInPath, leads_to, refusals
from services.inventory.routes.idempotency import Once
from services.inventory.schemas.catalogue import CategoryId, ProductIn, ProductOut, ProductPatch, Status
from services.inventory.schemas.fields import request_hash

router = APIRouter(prefix="/api/v1/products", tags=["products"], responses=refusals(409, 412, 428))
product = tables.product


NEXT = leads_to("sku", "sku", "get_product", "revise_product", "archive_product")


@router.post("", status_code=201, responses={200: {"model": ProductOut, "description": "Created before"}, 201: NEXT})
async def create_product(
    body: ProductIn, connection: WriteConnection, _principal: Operator, response: Response
) -> ProductOut:
    """Create a product. The same body again changes nothing and answers 200."""
    row, replayed = await catalogue.create(connection, product, body.model_dump(), request_hash(body))
    if replayed:
        mark_replayed(response)
    return _answer(row, response)


@router.get("")
async def list_products(
    connection: ReadConnection,
    _principal: Reader,
    paging: Paging,
    category_id: Annotated[CategoryId | None, Query(alias="categoryId")] = None,
    status: Annotated[Status | None, Query()] = None,
) -> Page[ProductOut]:
    """Products in the order of their ids."""
    statement = select(*product.c)
    if category_id is not None:
        statement = statement.where(product.c.category_id == category_id)
    if status is not None:
        statement = statement.where(product.c.status == status)
    rows = await fetch_all(connection, keyset(statement, [product.c.sku], paging))
    return paging.page(rows, ["sku"], ProductOut.of)


@router.post("/{sku:path}/archive")
async def archive_product(
    sku: SkuInPath, connection: WriteConnection, _principal: Operator, once: Once, response: Response
) -> ProductOut:
    """Take a product out of use. Refused while a warehouse holds units of it."""
    if await once.is_repeated(connection):
        return _answer(await catalogue.find(connection, product, sku), response)
    return _answer(await catalogue.archive_product(connection, sku), response)


@router.get("/{sku:path}")
async def get_product(sku: SkuInPath, connection: ReadConnection, _principal: Reader, response: Response) -> ProductOut:
    """One product."""
    return _answer(await catalogue.find(connection, product, sku), response)


@router.patch("/{sku:path}")
async def revise_product(
    sku: SkuInPath,
    body: ProductPatch,
    connection: WriteConnection,
    _principal: Operator,
    if_match: IfMatch,
    response: Response,
) -> ProductOut:
    """Change fields of a product; those left out stay."""
    changes = body.model_dump(exclude_unset=True)
    row = await catalogue.revise(connection, product, sku, changes, if_match)
    return _answer(row, response)


def _answer(row: asyncpg.Record, response: Response) -> ProductOut:
    response.headers["ETag"] = etag(row["version"])
    return ProductOut.of(row)
