"""Alerts, and the stock that they are about."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import ColumnElement, select

from libs.chassis.database import Connection, fetch_all
from libs.chassis.paging import PageRequest, keyset
from libs.events.analytics import Severity
from services.pipeline.alert import Alert, ItemStock, Notice, Status, StockItem
from services.pipeline.alert_digest import Circle
from services.pipeline.tables import alert

_STOCK = """
    SELECT sku, warehouse_id, quantity_available, level.reorder_point,
           coalesce(velocity_30, 0) AS velocity_per_day, coalesce(sd_daily_30, 0) AS sd_daily_demand,
           coalesce(demand_90, 0) AS demand_90
      FROM inventory.stock_levels_v1 AS level LEFT JOIN stock_metrics_v1 AS metric USING (sku, warehouse_id)
"""
# What is acknowledged or snoozed is silent; it is open again when it gets worse or the snooze ends.
_TO_TELL = "notice IS NOT NULL AND status IN ('open', 'resolved')"


async def stock_page(connection: Connection, after: StockItem, limit: int) -> list[ItemStock]:
    """The stock of the next items by sku and warehouse that have a reorder point or sold within 90 days."""
    rows = await connection.fetch(
        f"""
        {_STOCK}
         WHERE (sku, warehouse_id) > ($1, $2) AND (level.reorder_point IS NOT NULL OR demand_90 > 0)
         ORDER BY sku, warehouse_id LIMIT $3
        """,
        *after,
        limit,
    )
    return [ItemStock(**row) for row in rows]


async def stock_of(connection: Connection, items: Collection[StockItem]) -> list[ItemStock]:
    """The stock of these items."""
    rows = await connection.fetch(
        f"{_STOCK} WHERE (sku, warehouse_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))",
        [sku for sku, _ in items],
        [warehouse_id for _, warehouse_id in items],
    )
    return [ItemStock(**row) for row in rows]


async def lock_live(connection: Connection) -> dict[StockItem, Alert]:
    """Every live alert by its stock item, locked."""
    rows = await connection.fetch(
        "SELECT * FROM alert WHERE status <> 'resolved' ORDER BY sku, warehouse_id FOR NO KEY UPDATE"
    )
    return {(row["sku"], row["warehouse_id"]): _alert(row) for row in rows}


async def lock_unannounced(connection: Connection, limit: int) -> list[Alert]:
    """The next alerts that an event is due of, by warehouse and sku, locked."""
    rows = await connection.fetch(
        """
        SELECT * FROM alert WHERE event_due_at IS NOT NULL
         ORDER BY warehouse_id, sku, alert_id LIMIT $1 FOR NO KEY UPDATE
        """,
        limit,
    )
    return [_alert(row) for row in rows]


async def lock_untold(connection: Connection, circle: Circle, limit: int) -> list[Alert]:
    """The next alerts of which there is something to tell somebody now, by warehouse and sku, locked."""
    rows = await connection.fetch(
        f"""
        SELECT * FROM alert WHERE {_TO_TELL} AND (warehouse_id = ANY($1)) <> $2
         ORDER BY warehouse_id, sku, alert_id LIMIT $3 FOR NO KEY UPDATE
        """,
        circle.exceptions,
        circle.is_general,
        limit,
    )
    return [_alert(row) for row in rows]


async def count_without_recipients(connection: Connection, circle: Circle) -> int:
    """How many alerts there would be something to tell of now, if somebody heard of their warehouses."""
    count: int = await connection.fetchval(
        f"SELECT count(*) FROM alert WHERE {_TO_TELL} AND (warehouse_id = ANY($1)) = $2",
        circle.exceptions,
        circle.is_general,
    )
    return count


async def lock(connection: Connection, alert_id: UUID) -> Alert | None:
    """One alert, locked."""
    row = await connection.fetchrow("SELECT * FROM alert WHERE alert_id = $1 FOR NO KEY UPDATE", alert_id)
    return None if row is None else _alert(row)


async def find(connection: Connection, alert_id: UUID) -> Alert | None:
    """One alert."""
    row = await connection.fetchrow("SELECT * FROM alert WHERE alert_id = $1", alert_id)
    return None if row is None else _alert(row)


async def save(connection: Connection, alerts: Sequence[Alert]) -> None:
    """Insert new alerts and write back changed ones, which the caller has locked."""
    await connection.execute(
        """
        INSERT INTO alert SELECT * FROM jsonb_populate_recordset(NULL::alert, $1)
        ON CONFLICT (alert_id) DO UPDATE
           SET status = excluded.status, severity = excluded.severity,
               quantity_available = excluded.quantity_available, reorder_point = excluded.reorder_point,
               velocity_per_day = excluded.velocity_per_day, days_of_supply = excluded.days_of_supply,
               stockout_risk = excluded.stockout_risk, suggested_action = excluded.suggested_action,
               revision = excluded.revision, updated_at = excluded.updated_at,
               acknowledged_at = excluded.acknowledged_at, acknowledged_by = excluded.acknowledged_by,
               snoozed_until = excluded.snoozed_until, resolved_at = excluded.resolved_at,
               resolved_by = excluded.resolved_by, event_due_at = excluded.event_due_at,
               announced_severity = excluded.announced_severity, notice = excluded.notice,
               told_severity = excluded.told_severity, thread_id = excluded.thread_id
        """,
        [asdict(changed) for changed in alerts],
    )


async def delete_older(connection: Connection, days: int) -> int:
    """Delete the alerts that were resolved so many days ago, also where nobody could be told of that; how many."""
    deleted = await connection.execute(
        "DELETE FROM alert WHERE status = 'resolved' AND resolved_at < now() - make_interval(days => $1)", days
    )
    return int(deleted.split()[-1])


async def product_names(connection: Connection, skus: Collection[str]) -> dict[str, str]:
    """The names of those products that have one."""
    rows = await connection.fetch("SELECT sku, name FROM inventory.products_v1 WHERE sku = ANY($1)", list(skus))
    return {row["sku"]: row["name"] for row in rows}


async def list_alerts(
    connection: Connection,
    paging: PageRequest,
    *,
    status: Status | None,
    severity: Severity | None,
    sku: str | None,
    warehouse_id: str | None,
    visible_warehouses: frozenset[str] | None,
) -> list[dict[str, Any]]:
    """A page of alerts, the latest first."""
    conditions: list[ColumnElement[bool]] = []
    for column, wanted in (
        (alert.c.status, status),
        (alert.c.severity, severity),
        (alert.c.sku, sku),
        (alert.c.warehouse_id, warehouse_id),
    ):
        if wanted is not None:
            conditions.append(column == str(wanted))
    if visible_warehouses is not None:
        conditions.append(alert.c.warehouse_id.in_(sorted(visible_warehouses)))
    statement = select(alert).where(*conditions)
    return [
        dict(row)
        for row in await fetch_all(
            connection, keyset(statement, (alert.c.opened_at.desc(), alert.c.alert_id.desc()), paging)
        )
    ]


def _alert(row: asyncpg.Record) -> Alert:
    announced, told, notice = row["announced_severity"], row["told_severity"], row["notice"]
    return Alert(
        **{
            **row,
            "status": Status(row["status"]),
            "severity": Severity(row["severity"]),
            "announced_severity": announced and Severity(announced),
            "told_severity": told and Severity(told),
            "notice": notice and Notice(notice),
        }
    )
