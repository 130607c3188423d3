"""Which day it is for the metrics, and how far they have come."""

from datetime import UTC, date, datetime
from typing import Literal

from fastapi import APIRouter, Request

from libs.chassis.database import Connection, ReadConnection
from libs.chassis.model import ApiModel
from services.pipeline import metric_queries
from services.pipeline.routes.access import Operator, Reader
from services.pipeline.settings import Settings

router = APIRouter(prefix="/api/v1", tags=["operations"])


class ClockOut(ApiModel):
    """Which day it is for every metric, and how far the calculation has come."""

    as_of: date | None
    mode: Literal["wall", "event"]
    calculated_as_of: date | None
    dirty_stock_items: int


class MetricsBacklogOut(ApiModel):
    """Stock items that wait to be calculated."""

    depth: int


@router.get("/clock")
async def get_clock(request: Request, connection: ReadConnection, principal: Reader) -> ClockOut:
    """The day up to which every window reaches: today (UTC), or the latest date among ledger events."""
    settings: Settings = request.app.state.settings
    return ClockOut(
        as_of=await metric_queries.as_of(connection, _today(settings)),
        mode=settings.metrics_clock,
        calculated_as_of=await metric_queries.calculated_as_of(connection),
        dirty_stock_items=await _waiting_items(connection, settings),
    )


@router.get("/metrics-backlog")
async def get_metrics_backlog(request: Request, connection: ReadConnection, principal: Operator) -> MetricsBacklogOut:
    """How many stock items wait to be calculated, be it because they changed or because the day advanced."""
    return MetricsBacklogOut(depth=await _waiting_items(connection, request.app.state.settings))


async def _waiting_items(connection: Connection, settings: Settings) -> int:
    day = await metric_queries.as_of(connection, _today(settings))
    calculated = await metric_queries.calculated_as_of(connection)
    dirty = await metric_queries.count_dirty(connection)
    if day is None or calculated is None or calculated >= day:
        return dirty
    return max(dirty, await metric_queries.count_active(connection, calculated))


def _today(settings: Settings) -> date | None:
    return datetime.now(UTC).date() if settings.metrics_clock == "wall" else None
