"""`/outbox`: what a service has still to publish."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from libs.chassis.auth import Principal, require
from libs.chassis.database import ReadConnection
from libs.chassis.model import ApiModel
from libs.events import outbox

router = APIRouter(prefix="/api/v1/outbox", tags=["operations"])


class OutboxOut(ApiModel):
    """What waits to be published."""

    depth: int
    oldest_age_seconds: float
    refused: Annotated[
        int, Field(description="Events that the broker refused, too large for it: they are not sent until released.")
    ]


@router.get("")
async def get_outbox(connection: ReadConnection, principal: Annotated[Principal, require("ops:read")]) -> OutboxOut:
    """How many events wait to be published, and for how long the oldest has."""
    waiting = await outbox.depth(connection)
    return OutboxOut(depth=waiting.depth, oldest_age_seconds=waiting.oldest_age_seconds, refused=waiting.refused)
