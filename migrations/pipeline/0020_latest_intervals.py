"""The latest interval that a step has succeeded for is found without reading those before."""

from migrations.script import execute

revision = "0020_latest_intervals"
down_revision = "0019_backfills"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index the successes of whole intervals by their end."""
    execute("""
        CREATE INDEX run_step_interval_idx ON run_step (job, step, interval_end DESC, interval_start)
            WHERE status = 'succeeded' AND warehouse_id IS NULL;
    """)
