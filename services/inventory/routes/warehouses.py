"""Warehouses: created, revised, archived, never deleted."""

from typing import Annotated

import asyncpg
from fastapi import APIRouter, Query, Response
from sqlalchemy import select

from libs.chassis.database import ReadConnection, WriteConnection, fetch_all
from libs.chassis.etag import IfMatch, etag
from libs.chassis.paging import Page, Paging, keyset
from libs.chassis.replay import mark_replayed
from services.inventory import catalogue, tables
from services.inventory.routes.access import Operator, Reader, WarehouseInPath, leads_to, refusals
from services.inventory.routes.idempotency import Once
from services.inventory.schemas.catalogue import Status, WarehouseIn, WarehouseOut, WarehousePatch
from services.inventory.schemas.fields import request_hash

router = APIRouter(prefix="/api/v1/warehouses", tags=["warehouses"], responses=refusals(409, 412, 428))
warehouse = tables.warehouse


NEXT = leads_to("warehouse_id", "warehouseId", "get_warehouse", "revise_warehouse", "archive_warehouse")


@router.post("", status_code=201, responses={200: {"model": WarehouseOut, "description": "Created before"}, 201: NEXT})
async def create_warehouse(
    body: WarehouseIn, connection: WriteConnection, principal: Operator, response: Response
) -> WarehouseOut:
    """Create a warehouse. The same body again changes nothing and answers 200."""
    principal.check_warehouses(body.warehouse_id)
    row, replayed = await catalogue.create(connection, warehouse, body.model_dump(), request_hash(body))
    if replayed:
        mark_replayed(response)
    return _answer(row, response)


@router.get("")
async def list_warehouses(
    connection: ReadConnection,
    _principal: Reader,
    paging: Paging,
    status: Annotated[Status | None, Query()] = None,
) -> Page[WarehouseOut]:
    """Warehouses in the order of their ids."""
    statement = select(*warehouse.c)
    if status is not None:
        statement = statement.where(warehouse.c.status == status)
    rows = await fetch_all(connection, keyset(statement, [warehouse.c.warehouse_id], paging))
    return paging.page(rows, ["warehouse_id"], WarehouseOut.of)


@router.post("/{warehouse_id}/archive")
async def archive_warehouse(
    warehouse_id: WarehouseInPath, connection: WriteConnection, principal: Operator, once: Once, response: Response
) -> WarehouseOut:
    """Take a warehouse out of use. Refused while it holds units."""
    principal.check_warehouses(warehouse_id)
    if await once.is_repeated(connection):
        return _answer(await catalogue.find(connection, warehouse, warehouse_id), response)
    return _answer(await catalogue.archive_warehouse(connection, warehouse_id), response)


@router.get("/{warehouse_id}")
async def get_warehouse(
    warehouse_id: WarehouseInPath, connection: ReadConnection, _principal: Reader, response: Response
) -> WarehouseOut:
    """One warehouse."""
    return _answer(await catalogue.find(connection, warehouse, warehouse_id), response)


@router.patch("/{warehouse_id}")
async def revise_warehouse(
    warehouse_id: WarehouseInPath,
    body: WarehousePatch,
    connection: WriteConnection,
    principal: Operator,
    if_match: IfMatch,
    response: Response,
) -> WarehouseOut:
    """Change fields of a warehouse; those left out stay."""
    principal.check_warehouses(warehouse_id)
    changes = body.model_dump(exclude_unset=True)
    row = await catalogue.revise(connection, warehouse, warehouse_id, changes, if_match)
    return _answer(row, response)


def _answer(row: asyncpg.Record, response: Response) -> WarehouseOut:
    response.headers["ETag"] = etag(row["version"])
    return WarehouseOut.of(row)
