"""The published views that analytics reads, for queries that are built from filters."""

from sqlalchemy import BigInteger, Column, Date, DateTime, Float, MetaData, Table, Text

metadata = MetaData()

stock_metrics = Table(
    "stock_metrics_v1",
    metadata,
    Column("sku", Text),
    Column("warehouse_id", Text),
    Column("as_of", Date),
    Column("demand_7", BigInteger),
    Column("demand_30", BigInteger),
    Column("demand_90", BigInteger),
    Column("velocity_7", Float),
    Column("velocity_30", Float),
    Column("velocity_90", Float),
    Column("sd_daily_7", Float),
    Column("sd_daily_30", Float),
    Column("sd_daily_90", Float),
    Column("change_ratio_30d", Float),
    Column("slope_per_day", Float),
    Column("t_statistic", Float),
    Column("direction", Text),
    Column("revision", BigInteger),
    Column("calculated_at", DateTime(timezone=True)),
    schema="pipeline",
)

daily_metrics = Table(
    "daily_metrics_v1",
    metadata,
    Column("date", Date),
    Column("sku", Text),
    Column("warehouse_id", Text),
    Column("turnover_30", Float),
    Column("turnover_90", Float),
    Column("days_of_supply", Float),
    Column("stockout_risk", Float),
    Column("abc_class", Text),
    Column("xyz_class", Text),
    schema="pipeline",
)
