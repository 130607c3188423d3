"""Records that the service's consumer could not apply."""

from typing import Any

from sqlalchemy import select

from libs.chassis.database import Connection, fetch_all
from libs.chassis.paging import PageRequest, keyset
from services.reorder.tables import dead_letter


async def list_dead_letters(connection: Connection, paging: PageRequest) -> list[dict[str, Any]]:
    """A page of dead letters, the latest first."""
    table = dead_letter
    statement = select(
        table.c.id,
        table.c.group_name.label("group"),
        table.c.topic,
        table.c.partition,
        table.c.record_offset.label("offset"),
        table.c.event_type,
        table.c.event_id,
        table.c.error_class,
        table.c.error,
        table.c.status,
        table.c.record_timestamp,
        table.c.created_at,
    )
    return [dict(row) for row in await fetch_all(connection, keyset(statement, (table.c.id.desc(),), paging))]
