"""The tables that lists are read from, as SQLAlchemy sees them. The migrations are the definition."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()
_instant = DateTime(timezone=True)
_money = Numeric(18, 6)

category = Table(
    "category",
    metadata,
    Column("category_id", Text, primary_key=True),
    Column("name", Text),
    Column("parent_id", Text),
    Column("status", Text),
    Column("version", BigInteger),
    Column("request_hash", LargeBinary),
    Column("created_at", _instant),
    Column("updated_at", _instant),
)

product = Table(
    "product",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("name", Text),
    Column("description", Text),
    Column("category_id", Text),
    Column("unit_of_measure", Text),
    Column("unit_cost", _money),
    Column("unit_price", _money),
    Column("shelf_life_days", Integer),
    Column("status", Text),
    Column("attributes", JSONB),
    Column("version", BigInteger),
    Column("request_hash", LargeBinary),
    Column("created_at", _instant),
    Column("updated_at", _instant),
)

warehouse = Table(
    "warehouse",
    metadata,
    Column("warehouse_id", Text, primary_key=True),
    Column("name", Text),
    Column("timezone", Text),
    Column("address", JSONB),
    Column("status", Text),
    Column("version", BigInteger),
    Column("request_hash", LargeBinary),
    Column("created_at", _instant),
    Column("updated_at", _instant),
)

stock_level = Table(
    "stock_level",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("warehouse_id", Text, primary_key=True),
    Column("quantity_on_hand", BigInteger),
    Column("quantity_reserved", BigInteger),
    Column("quantity_available", BigInteger),
    Column("reorder_point", BigInteger),
    Column("reorder_quantity", BigInteger),
    Column("sequence", BigInteger),
    Column("revision", BigInteger),
    Column("updated_at", _instant),
)

stock_transaction = Table(
    "stock_transaction",
    metadata,
    Column("transaction_id", Uuid, primary_key=True),
    Column("transaction_type", Text),
    Column("reference_id", Text),
    Column("notes", Text),
    Column("reason", Text),
    Column("actor", Text),
    Column("source", Text),
    Column("request_hash", LargeBinary),
    Column("occurred_at", _instant),
    Column("recorded_at", _instant),
    Column("line_count", Integer),
    Column("reverses_id", Uuid),
    Column("reservation_id", Uuid),
)

ledger_entry = Table(
    "ledger_entry",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("warehouse_id", Text, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("transaction_id", Uuid),
    Column("line_no", Integer),
    Column("quantity_change", BigInteger),
    Column("quantity_before", BigInteger),
    Column("quantity_after", BigInteger),
    Column("quantity_reserved_after", BigInteger),
    Column("revision", BigInteger),
    Column("unit_cost", _money),
    Column("unit_price", _money),
    Column("occurred_at", _instant),
    Column("recorded_at", _instant),
)

reservation = Table(
    "reservation",
    metadata,
    Column("reservation_id", Uuid, primary_key=True),
    Column("reference_id", Text),
    Column("notes", Text),
    Column("actor", Text),
    Column("created_at", _instant),
    Column("expires_at", _instant),
)

allocation = Table(
    "allocation",
    metadata,
    Column("reservation_id", Uuid, primary_key=True),
    Column("line_no", Integer, primary_key=True),
    Column("sku", Text),
    Column("warehouse_id", Text),
    Column("quantity_requested", BigInteger),
    Column("quantity", BigInteger),
    Column("fulfilled", BigInteger),
    Column("released", BigInteger),
    Column("outstanding", BigInteger),
    Column("expires_at", _instant),
)

stock_repair = Table(
    "stock_repair",
    metadata,
    Column("repair_id", Uuid, primary_key=True),
    Column("plan_id", Text),
    Column("reason", Text),
    Column("actor", Text),
    Column("undoes_id", Uuid),
    Column("applied_at", _instant),
)

stock_repair_item = Table(
    "stock_repair_item",
    metadata,
    Column("repair_id", Uuid, primary_key=True),
    Column("sku", Text, primary_key=True),
    Column("warehouse_id", Text, primary_key=True),
)
