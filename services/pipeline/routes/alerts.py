"""Low stock alerts: what is short, and who looks after it."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, Field

from libs.chassis.auth import Principal
from libs.chassis.database import Connection, ReadConnection, WriteConnection
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging
from libs.chassis.problems import RefusalMap
from libs.events.analytics import Severity
from libs.events.envelope import Instant, Sku, WarehouseId
from services.pipeline import alert, alert_queries
from services.pipeline.alert import Alert, AlertResolved, SnoozeNotAhead, SnoozeTooLong, Status, UnknownAlert
from services.pipeline.routes.access import Reader, Starter

REFUSALS: RefusalMap = {
    UnknownAlert: (404, "not-found"),
    AlertResolved: (409, "invalid-transition"),
    SnoozeNotAhead: (422, "snooze-not-ahead"),
    SnoozeTooLong: (422, "snooze-too-long"),
}

router = APIRouter(prefix="/api/v1/alerts", tags=["alerts"])

AlertId = Annotated[UUID, Path(alias="alertId")]


class SnoozeIn(ApiModel):
    """How long to be silent."""

    until: Annotated[Instant, Field(description="An instant in the future, at most a year ahead.")]


class AlertOut(ApiModel):
    """An alert of one stock item, with the figures of the latest check."""

    alert_id: UUID
    sku: str
    warehouse_id: str
    status: Status
    severity: Severity
    quantity_available: int
    reorder_point: int | None
    velocity_per_day: Annotated[float, Field(description="Mean demand of the last 30 days.")]
    days_of_supply: Annotated[
        float | None, Field(description="quantityAvailable / velocityPerDay; null without sales.")
    ]
    stockout_risk: Annotated[
        float, Field(description="Probability that demand until the next possible delivery exceeds what is available.")
    ]
    suggested_action: str
    revision: int
    opened_at: AwareDatetime
    updated_at: AwareDatetime
    acknowledged_at: AwareDatetime | None
    acknowledged_by: str | None
    snoozed_until: AwareDatetime | None
    resolved_at: AwareDatetime | None
    resolved_by: Annotated[str | None, Field(description="Null when the stock has recovered.")]

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        """An alert as it is stored."""
        values = {name: row[name] for name in cls.model_fields}
        return cls(**values | {"status": Status(row["status"]), "severity": Severity(row["severity"])})


@router.get("")
async def list_alerts(
    connection: ReadConnection,
    paging: Paging,
    principal: Reader,
    status: Annotated[Status | None, Query()] = None,
    severity: Annotated[Severity | None, Query()] = None,
    sku: Annotated[Sku | None, Query()] = None,
    warehouse_id: Annotated[WarehouseId | None, Query(alias="warehouseId")] = None,
) -> Page[AlertOut]:
    """Alerts, the latest first."""
    rows = await alert_queries.list_alerts(
        connection,
        paging,
        status=status,
        severity=severity,
        sku=sku,
        warehouse_id=warehouse_id,
        visible_warehouses=principal.warehouses,
    )
    return paging.page(rows, ("opened_at", "alert_id"), AlertOut.of)


@router.get("/{alertId}")
async def get_alert(alert_id: AlertId, connection: ReadConnection, principal: Reader) -> AlertOut:
    """One alert."""
    return _shown(_visible(await alert_queries.find(connection, alert_id), alert_id, principal))


@router.post("/{alertId}/acknowledge")
async def acknowledge_alert(alert_id: AlertId, connection: WriteConnection, principal: Starter) -> AlertOut:
    """Take an alert on: it stays silent unless it gets worse. Doing so again changes nothing."""
    held = _visible(await alert_queries.lock(connection, alert_id), alert_id, principal)
    return await _save(connection, alert.acknowledge(held, principal.name, datetime.now(UTC)))


@router.post("/{alertId}/snooze")
async def snooze_alert(alert_id: AlertId, body: SnoozeIn, connection: WriteConnection, principal: Starter) -> AlertOut:
    """Silence an alert until an instant; the first check after it tells of it again."""
    held = _visible(await alert_queries.lock(connection, alert_id), alert_id, principal)
    return await _save(connection, alert.snooze(held, body.until, datetime.now(UTC)))


@router.post("/{alertId}/resolve")
async def resolve_alert(alert_id: AlertId, connection: WriteConnection, principal: Starter) -> AlertOut:
    """Close an alert. While the stock item is still short, the next check opens another one."""
    held = _visible(await alert_queries.lock(connection, alert_id), alert_id, principal)
    return await _save(connection, alert.resolve(held, principal.name, datetime.now(UTC)))


def _visible(found: Alert | None, alert_id: UUID, principal: Principal) -> Alert:
    if found is None:
        raise UnknownAlert(f"There is no alert {alert_id}.")
    principal.check_warehouses(found.warehouse_id)
    return found


async def _save(connection: Connection, changed: Alert) -> AlertOut:
    await alert_queries.save(connection, [changed])
    return _shown(changed)


def _shown(found: Alert) -> AlertOut:
    return AlertOut.of(asdict(found))
