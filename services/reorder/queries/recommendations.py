"""Recommendations: at most one per stock item is not closed."""

import json
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import select

from libs.chassis.database import Connection, fetch_all
from libs.chassis.paging import PageRequest, keyset
from services.reorder.queries.items import ItemFilter, columns
from services.reorder.recommendation import Recommendation, Status, StockItem
from services.reorder.tables import recommendation

LATEST_FIRST = (recommendation.c.created_at.desc(), recommendation.c.recommendation_id.desc())


async def live_recommendations(connection: Connection, items: Collection[StockItem]) -> dict[StockItem, Recommendation]:
    """The one recommendation per stock item that is not closed, of those that have one."""
    rows = await connection.fetch(
        """
        SELECT recommendation.*
          FROM recommendation
          JOIN unnest($1::text[], $2::text[]) AS item(sku, warehouse_id) USING (sku, warehouse_id)
         WHERE recommendation.closed_at IS NULL
        """,
        *columns(items),
    )
    return {told.item: told for told in map(_recommendation, rows)}


async def open_recommendations_after(connection: Connection, after: StockItem, limit: int) -> list[Recommendation]:
    """The next `limit` open recommendations in the order of their stock items."""
    rows = await connection.fetch(
        """
        SELECT * FROM recommendation
         WHERE status = 'open' AND closed_at IS NULL AND (sku, warehouse_id) > ($1, $2)
         ORDER BY sku, warehouse_id LIMIT $3
        """,
        after.sku,
        after.warehouse_id,
        limit,
    )
    return [_recommendation(row) for row in rows]


async def save_recommendations(connection: Connection, recommendations: Sequence[Recommendation]) -> None:
    """Insert new recommendations and write back changed ones."""
    if not recommendations:
        return
    await connection.execute(
        """
        INSERT INTO recommendation (recommendation_id, sku, warehouse_id, status, recommended_quantity,
                                    inventory_position, reorder_point, explanation, revision, snoozed_until,
                                    created_at, updated_at, closed_at)
        SELECT recommendation_id, sku, warehouse_id, status, recommended_quantity, inventory_position, reorder_point,
               explanation::jsonb, revision, snoozed_until, created_at, updated_at, closed_at
          FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
                      $8::text[], $9::bigint[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[],
                      $13::timestamptz[])
               AS told(recommendation_id, sku, warehouse_id, status, recommended_quantity, inventory_position,
                       reorder_point, explanation, revision, snoozed_until, created_at, updated_at, closed_at)
        ON CONFLICT (recommendation_id) DO UPDATE
           SET status = excluded.status, recommended_quantity = excluded.recommended_quantity,
               inventory_position = excluded.inventory_position, reorder_point = excluded.reorder_point,
               explanation = excluded.explanation, revision = excluded.revision,
               snoozed_until = excluded.snoozed_until, updated_at = excluded.updated_at, closed_at = excluded.closed_at
        """,
        [told.recommendation_id for told in recommendations],
        *columns([told.item for told in recommendations]),
        [told.status.value for told in recommendations],
        [told.recommended_quantity for told in recommendations],
        [told.inventory_position for told in recommendations],
        [told.reorder_point for told in recommendations],
        [json.dumps(told.explanation) for told in recommendations],
        [told.revision for told in recommendations],
        [told.snoozed_until for told in recommendations],
        [told.created_at for told in recommendations],
        [told.updated_at for told in recommendations],
        [told.closed_at for told in recommendations],
    )


async def item_of(connection: Connection, recommendation_id: UUID) -> StockItem | None:
    """The stock item that a recommendation is about."""
    row = await connection.fetchrow(
        "SELECT sku, warehouse_id FROM recommendation WHERE recommendation_id = $1", recommendation_id
    )
    return StockItem(row["sku"], row["warehouse_id"]) if row else None


async def get_recommendation(connection: Connection, recommendation_id: UUID) -> Recommendation | None:
    """One recommendation; stable while the position of its stock item is locked."""
    row = await connection.fetchrow("SELECT * FROM recommendation WHERE recommendation_id = $1", recommendation_id)
    return _recommendation(row) if row else None


async def list_recommendations(
    connection: Connection, paging: PageRequest, items: ItemFilter, status: Status | None
) -> list[dict[str, Any]]:
    """A page of recommendations, the latest first."""
    table = recommendation
    statement = items.narrow(select(table), table)
    if status is not None:
        statement = statement.where(table.c.status == status.value)
    return [dict(row) for row in await fetch_all(connection, keyset(statement, LATEST_FIRST, paging))]


def _recommendation(row: asyncpg.Record) -> Recommendation:
    return Recommendation(
        recommendation_id=row["recommendation_id"],
        item=StockItem(row["sku"], row["warehouse_id"]),
        status=Status(row["status"]),
        recommended_quantity=row["recommended_quantity"],
        inventory_position=row["inventory_position"],
        reorder_point=row["reorder_point"],
        explanation=row["explanation"],
        revision=row["revision"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        snoozed_until=row["snoozed_until"],
        closed_at=row["closed_at"],
    )
