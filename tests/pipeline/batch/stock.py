"""Stock of the inventory service and metrics of the pipeline, for jobs that read both."""

import asyncpg

from tests.stack import Database


async def set_stock(
    database: Database,
    sku: str,
    available: int,
    *,
    warehouse_id: str = "BERLIN-1",
    reorder_point: int | None = None,
    sold_per_day: float = 0,
    unit_cost: str | None = None,
) -> None:
    """So many units of a product lie there, and so many are sold each day."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute(
            """
            INSERT INTO inventory.product (sku, name, unit_cost, attributes, request_hash)
            VALUES ($1, $2, $3::text::numeric, '{}', '') ON CONFLICT (sku) DO NOTHING
            """,
            sku,
            f"The {sku.lower()}",
            unit_cost,
        )
        await connection.execute(
            """
            INSERT INTO inventory.warehouse (warehouse_id, name, request_hash) VALUES ($1, $1, '')
            ON CONFLICT DO NOTHING
            """,
            warehouse_id,
        )
        await connection.execute(
            """
            INSERT INTO inventory.stock_level (sku, warehouse_id, quantity_on_hand, reorder_point)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (sku, warehouse_id) DO UPDATE
               SET quantity_on_hand = excluded.quantity_on_hand, reorder_point = excluded.reorder_point
            """,
            sku,
            warehouse_id,
            available,
            reorder_point,
        )
        await connection.execute(
            """
            INSERT INTO pipeline.stock_metric (sku, warehouse_id, as_of, demand_90, velocity_30, sd_daily_30)
            VALUES ($1, $2, '2026-01-05', $3, $4, $4)
            ON CONFLICT (sku, warehouse_id) DO UPDATE
               SET demand_90 = excluded.demand_90, velocity_30 = excluded.velocity_30,
                   sd_daily_30 = excluded.sd_daily_30
            """,
            sku,
            warehouse_id,
            round(90 * sold_per_day),
            float(sold_per_day),
        )
    finally:
        await connection.close()


async def remove_stock(database: Database) -> None:
    """Nothing lies anywhere."""
    connection = await asyncpg.connect(database.superuser_url)
    try:
        await connection.execute("DELETE FROM inventory.stock_level")
    finally:
        await connection.close()
