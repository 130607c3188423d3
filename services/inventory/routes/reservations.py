"""Reservations: units held for somebody for a while."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from libs.chassis.database import Connection, ReadConnection, WriteConnection, acquired, fetch_all
from libs.chassis.paging import Page, Paging, keyset
from libs.chassis.replay import mark_replayed
from services.inventory import reservations
from services.inventory.queries import reservations as queries
from services.inventory.refusal import UnknownReservation
from services.inventory.routes.access import Operator, Reader, leads_to, refusals, visible_documents
from services.inventory.routes.idempotency import Once
from services.inventory.routes.posting import DatabasePool, answer
from services.inventory.schemas.reservations import (
    FulfilmentIn,
    ReleaseIn,
    ReservationHeadOut,
    ReservationIn,
    ReservationOut,
)
from services.inventory.schemas.stock import TransactionOut
from services.inventory.tables import allocation, reservation

router = APIRouter(prefix="/api/v1/reservations", tags=["reservations"], responses=refusals(409, 410))


NEXT = leads_to("reservation_id", "reservationId", "get_reservation", "fulfil_reservation", "release_reservation")


@router.post("", status_code=201, responses={200: {"model": ReservationOut, "description": "Made before"}, 201: NEXT})
async def reserve_stock(
    body: ReservationIn, pool: DatabasePool, principal: Operator, response: Response
) -> ReservationOut:
    """Hold units until they are fulfilled, released, or their time is up. The same body again changes nothing."""
    principal.check_warehouses(*{line.warehouse_id for line in body.lines})
    if await reservations.reserve(pool, body.reservation(principal.name)):
        mark_replayed(response)
    async with acquired(pool) as connection:
        return await _found(connection, body.reservation_id)


@router.get("")
async def list_reservations(
    connection: ReadConnection,
    principal: Reader,
    paging: Paging,
    reference_id: Annotated[str | None, Query(alias="referenceId", max_length=256)] = None,
) -> Page[ReservationHeadOut]:
    """Reservations without their lines, by `createdAt`.

    As with transactions, `createdAt` is set before the commit: a reservation that takes longer to commit may appear
    before a cursor that was saved meanwhile. To follow, read the topic `inventory-events`.
    """
    statement = queries.heads().where(visible_documents(principal, reservation, allocation))
    if reference_id is not None:
        statement = statement.where(reservation.c.reference_id == reference_id)
    rows = await fetch_all(
        connection, keyset(statement, [reservation.c.created_at, reservation.c.reservation_id], paging)
    )
    return paging.page(rows, ["created_at", "reservation_id"], ReservationHeadOut.of_row)


@router.get("/{reservation_id}")
async def get_reservation(reservation_id: UUID, connection: ReadConnection, principal: Reader) -> ReservationOut:
    """One reservation with its lines."""
    principal.check_warehouses(*await queries.warehouse_ids(connection, reservation_id))
    return await _found(connection, reservation_id)


@router.post(
    "/{reservation_id}/fulfilments",
    status_code=201,
    responses={200: {"model": TransactionOut, "description": "Posted before"}},
)
async def fulfil_reservation(
    reservation_id: UUID, body: FulfilmentIn, pool: DatabasePool, principal: Operator, response: Response
) -> TransactionOut:
    """Turn held units into a sale, all at once or in parts."""
    async with acquired(pool) as connection:
        principal.check_warehouses(*await queries.warehouse_ids(connection, reservation_id))
    outcome = await reservations.fulfil(pool, body.document(reservation_id, principal.name))
    return await answer(outcome, pool, response)


@router.post("/{reservation_id}/releases")
async def release_reservation(
    reservation_id: UUID, body: ReleaseIn, connection: WriteConnection, principal: Operator, once: Once
) -> ReservationOut:
    """Give held units back, all at once or in parts. Send an Idempotency-Key to repeat a part safely."""
    principal.check_warehouses(*await queries.warehouse_ids(connection, reservation_id))
    if not await once.is_repeated(connection, body):
        await reservations.release(connection, reservation_id, [line.share() for line in body.lines])
    return await _found(connection, reservation_id)


async def _found(connection: Connection, reservation_id: UUID) -> ReservationOut:
    found = await queries.find(connection, reservation_id)
    if found is None:
        raise UnknownReservation(f"There is no reservation {reservation_id}")
    return ReservationOut.of_found(found)
