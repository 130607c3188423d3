"""The tables of schema `pipeline`, for queries that are built from filters. Migrations own their definition."""

from sqlalchemy import BigInteger, Column, Date, DateTime, Integer, LargeBinary, MetaData, Numeric, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

daily_movement = Table(
    "daily_movement",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("warehouse_id", Text, primary_key=True),
    Column("date", Date, primary_key=True),
    Column("transaction_type", Text, primary_key=True),
    Column("entries", BigInteger),
    Column("units_in", BigInteger),
    Column("units_out", BigInteger),
    Column("value", Numeric),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("group_name", Text),
    Column("topic", Text),
    Column("partition", Integer),
    Column("record_offset", BigInteger),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", JSONB),
    Column("event_type", Text),
    Column("event_id", Text),
    Column("error_class", Text),
    Column("error", Text),
    Column("status", Text),
    Column("attempts", Integer),
    Column("record_timestamp", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True)),
)
