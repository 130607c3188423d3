"""The tables of schema `pipeline`, for queries that are built from filters. Migrations own their definition."""

from sqlalchemy import JSON, BigInteger, Column, Date, DateTime, Double, Integer, MetaData, Numeric, Table, Text, Uuid

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
    Column("warehouse_id", Text),
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

dataset_partition = Table(
    "dataset_partition",
    metadata,
    Column("dataset", Text, primary_key=True),
    Column("date", Date, primary_key=True),
    Column("rows", BigInteger),
    Column("run_id", Uuid),
    Column("replaced_at", DateTime(timezone=True)),
)

partition_quality = Table("partition_quality", metadata, Column("date", Date, primary_key=True), Column("status", Text))

alert = Table(
    "alert",
    metadata,
    Column("alert_id", Uuid, primary_key=True),
    Column("sku", Text),
    Column("warehouse_id", Text),
    Column("status", Text),
    Column("severity", Text),
    Column("quantity_available", BigInteger),
    Column("reorder_point", BigInteger),
    Column("velocity_per_day", Double),
    Column("days_of_supply", Double),
    Column("stockout_risk", Double),
    Column("suggested_action", Text),
    Column("revision", BigInteger),
    Column("opened_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
    Column("acknowledged_at", DateTime(timezone=True)),
    Column("acknowledged_by", Text),
    Column("snoozed_until", DateTime(timezone=True)),
    Column("resolved_at", DateTime(timezone=True)),
    Column("resolved_by", Text),
    Column("event_due_at", DateTime(timezone=True)),
    Column("announced_severity", Text),
    Column("notice", Text),
    Column("told_severity", Text),
    Column("thread_id", Text),
)

report = Table(
    "report",
    metadata,
    Column("report_id", Uuid, primary_key=True),
    Column("kind", Text),
    Column("week", Date),
    Column("content", JSON),
    Column("html", Text),
    Column("html_policy", Text),
    Column("generated_at", DateTime(timezone=True)),
    Column("published_at", DateTime(timezone=True)),
)
