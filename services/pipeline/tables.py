"""The tables of schema `pipeline`, for queries that are built from filters. Migrations own their definition."""

from sqlalchemy import BigInteger, Column, Date, MetaData, Numeric, Table, Text

metadata = MetaData()

daily_movement = Table(
    "daily_movement",
    metadata,
    Column("sku", Text, primary_key=True),
    Column("warehouse_id", Text, primary_key=True),
    Column("date", Date, primary_key=True),
    Column("transaction_type", Text, primary_key=True),
    Column("entries", BigInteger),
    Column("units_in", Numeric),
    Column("units_out", Numeric),
    Column("value", Numeric),
)
