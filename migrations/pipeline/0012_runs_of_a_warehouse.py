"""Runs of one warehouse: they replace its partitions, and stand beside the runs of all."""

from migrations.script import execute

revision = "0012_runs_of_a_warehouse"
down_revision = "0011_dimensions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A warehouse for runs and steps; the same step of an interval may be active once for each."""
    execute("""
        ALTER TABLE run ADD COLUMN warehouse_id text COLLATE "C";
        ALTER TABLE run_step ADD COLUMN warehouse_id text COLLATE "C";
        COMMENT ON COLUMN run.warehouse_id IS 'Only the partitions of this warehouse are replaced; null for all.';
        DROP INDEX run_step_active_key, run_step_latest_idx;
        CREATE UNIQUE INDEX run_step_active_key ON run_step (job, step, interval_start, interval_end, warehouse_id)
            NULLS NOT DISTINCT WHERE status IN ('queued', 'running');
        CREATE INDEX run_step_latest_idx
            ON run_step (job, step, warehouse_id, interval_start, interval_end, finished_at DESC)
            WHERE status = 'succeeded';
        COMMENT ON INDEX run_step_active_key IS 'Nobody computes the same step of the same interval twice at a time.';
    """)
