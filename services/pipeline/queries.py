"""Lists that the API answers."""

from datetime import date
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Date, Text, cast, func, literal, select

from libs.chassis.database import Connection, fetch_all
from libs.chassis.paging import PageRequest, keyset
from services.pipeline.tables import daily_movement
from services.pipeline.velocity import DEMAND_TYPES

OPENING_BALANCE = "OPENING_BALANCE"


class GroupBy(StrEnum):
    """What movements are summed by."""

    DATE = "date"
    WAREHOUSE = "warehouse"
    SKU = "sku"


_KEYS: dict[GroupBy, ColumnElement[str]] = {
    # As text, because a page cursor holds no dates; ISO dates sort the same way.
    GroupBy.DATE: cast(daily_movement.c.date, Text),
    GroupBy.WAREHOUSE: daily_movement.c.warehouse_id,
    GroupBy.SKU: daily_movement.c.sku,
}


async def sum_movements(
    connection: Connection, group_by: GroupBy, conditions: list[ColumnElement[bool]], paging: PageRequest
) -> list[dict[str, Any]]:
    """A page of movements summed by date, warehouse or sku, in order of that."""
    table = daily_movement.c
    net_out = table.units_out - table.units_in
    sums = (
        select(
            _KEYS[group_by].label("key"),
            func.sum(table.entries).label("movements"),
            func.sum(table.units_in).label("units_in"),
            func.sum(table.units_out).label("units_out"),
            func.coalesce(func.sum(net_out).filter(table.transaction_type.in_(DEMAND_TYPES)), 0).label("demand"),
            func.sum(table.value).label("value"),
        )
        .where(*conditions)
        .group_by(_KEYS[group_by])
        .subquery()
    )
    return [dict(row) for row in await fetch_all(connection, keyset(select(sums), (sums.c.key,), paging))]


def movement_conditions(
    *,
    date_from: date | None,
    date_to: date | None,
    sku: str | None,
    warehouse_id: str | None,
    transaction_type: str | None,
    warehouses: frozenset[str] | None,
) -> list[ColumnElement[bool]]:
    """Which movements are meant; opening balances are none unless asked for by type."""
    table = daily_movement.c
    meant = (
        table.transaction_type == transaction_type if transaction_type else table.transaction_type != OPENING_BALANCE
    )
    optional = {
        "date_from": None if date_from is None else table.date >= literal(date_from, Date),
        "date_to": None if date_to is None else table.date <= literal(date_to, Date),
        "sku": None if sku is None else table.sku == sku,
        "warehouse_id": None if warehouse_id is None else table.warehouse_id == warehouse_id,
        "warehouses": None if warehouses is None else table.warehouse_id.in_(sorted(warehouses)),
    }
    return [meant, *(condition for condition in optional.values() if condition is not None)]
