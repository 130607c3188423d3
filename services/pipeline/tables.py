"""The tables of schema `pipeline`, for queries that are built from filters. Migrations own their definition."""

from sqlalchemy import JSON, BigInteger, Column, Date, DateTime, Integer, MetaData, Numeric, Table, Text, Uuid

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

run = Table(
    "run",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("job", Text),
    Column("interval_start", DateTime(timezone=True)),
    Column("interval_end", DateTime(timezone=True)),
    Column("parameters", JSON),
    Column("status", Text),
    Column("attempt", Integer),
    Column("max_attempts", Integer),
    Column("requested_by", Text),
    Column("requested_at", DateTime(timezone=True)),
    Column("not_before", DateTime(timezone=True)),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("heartbeat_at", DateTime(timezone=True)),
    Column("worker", Text),
    Column("code_version", Text),
    Column("cancel_requested_by", Text),
    Column("error", Text),
)

run_log = Table(
    "run_log",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("id", BigInteger, primary_key=True),
    Column("at", DateTime(timezone=True)),
    Column("attempt", Integer),
    Column("step", Text),
    Column("level", Text),
    Column("event", Text),
    Column("fields", JSON),
)
