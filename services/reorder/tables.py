"""The tables of schema `reorder`, for queries that are built from filters. Migrations own their definition."""

from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

reorder_policy = Table(
    "reorder_policy",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("warehouse_id", Text, primary_key=True),
    Column("kind", Text),
    Column("reorder_point", BigInteger),
    Column("order_up_to", BigInteger),
    Column("version", BigInteger),
    Column("created_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
)

inventory_position = Table(
    "inventory_position",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("warehouse_id", Text, primary_key=True),
    Column("last_sequence", BigInteger),
    Column("revision", BigInteger),
    Column("quantity_on_hand", BigInteger),
    Column("quantity_reserved", BigInteger),
    Column("quantity_on_order", BigInteger),
    Column("inventory_position", BigInteger),
    Column("reorder_point", BigInteger),
    Column("reorder_quantity", BigInteger),
    Column("demand", JSONB),
    Column("updated_at", DateTime(timezone=True)),
)

recommendation = Table(
    "recommendation",
    metadata,
    Column("recommendation_id", Uuid, primary_key=True),
    Column("sku", Text),
    Column("warehouse_id", Text),
    Column("status", Text),
    Column("recommended_quantity", BigInteger),
    Column("inventory_position", BigInteger),
    Column("reorder_point", BigInteger),
    Column("supplier_id", Text),
    Column("explanation", JSONB),
    Column("revision", BigInteger),
    Column("snoozed_until", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
    Column("closed_at", DateTime(timezone=True)),
)
