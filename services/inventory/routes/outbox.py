"""How far publishing has come."""

from fastapi import APIRouter

from libs.chassis.database import ReadConnection
from libs.events import outbox
from services.inventory.routes.access import Reader
from services.inventory.schemas.stock import OutboxOut

router = APIRouter(prefix="/api/v1/outbox", tags=["operations"])


@router.get("")
async def get_outbox(connection: ReadConnection, _principal: Reader) -> OutboxOut:
    """How many events wait for the relay, and for how long the oldest has."""
    waiting = await outbox.depth(connection)
    return OutboxOut(depth=waiting.depth, oldest_age_seconds=waiting.oldest_age_seconds)
