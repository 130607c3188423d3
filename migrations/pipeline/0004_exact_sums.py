"""Facts whose sums outgrow 64 bits, and the records that third parties' updates came by."""

from migrations.script import execute

revision = "0004_exact_sums"
down_revision = "0003_metrics"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the sums of units numeric, and add the record's place to the updates of third parties."""
    _widen_sums()
    _add_places()


def _widen_sums() -> None:
    execute("DROP VIEW hourly_movements_v1, daily_movements_v1")
    for table in ("hourly_movement", "daily_movement"):
        execute(f"ALTER TABLE {table} ALTER COLUMN units_in TYPE numeric, ALTER COLUMN units_out TYPE numeric")
    movements = "CASE transaction_type WHEN 'OPENING_BALANCE' THEN 0 ELSE entries END AS movements"
    execute(f"""
        CREATE VIEW hourly_movements_v1 AS
            SELECT sku, warehouse_id, bucket_start AS hour, transaction_type, {movements}, units_in, units_out, value,
                   revision
              FROM hourly_movement;
        CREATE VIEW daily_movements_v1 AS
            SELECT sku, warehouse_id, date, transaction_type, {movements}, units_in, units_out, value, revision
              FROM daily_movement;
        COMMENT ON VIEW daily_movements_v1 IS 'An opening balance has units, but is not a movement.';
        COMMENT ON VIEW hourly_movements_v1 IS 'An opening balance has units, but is not a movement.';
        GRANT SELECT ON hourly_movements_v1, daily_movements_v1
           TO stockflow_pipeline, stockflow_analytics, stockflow_batch;
    """)


def _add_places() -> None:
    execute("""
        ALTER TABLE external_update
            ADD COLUMN topic text COLLATE "C",
            ADD COLUMN partition integer,
            ADD COLUMN record_offset bigint;
        COMMENT ON COLUMN external_update.record_offset IS
            'With topic and partition: a record of the event, one that is no dead letter if there is any.';
    """)
