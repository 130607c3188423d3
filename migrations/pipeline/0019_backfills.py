"""Runs of backfills wait behind all others, and one idempotency key may stand for all runs of a backfill."""

from migrations.script import execute

revision = "0019_backfills"
down_revision = "0018_run_retention"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Mark the runs of backfills; key requests by run as well."""
    execute("""
        ALTER TABLE run ADD COLUMN is_backfill boolean NOT NULL DEFAULT false;
        COMMENT ON COLUMN run.is_backfill IS 'One of many runs of a range: begun when no other run is due.';
        ALTER TABLE run_request DROP CONSTRAINT run_request_pkey, ADD PRIMARY KEY (idempotency_key, run_id);
    """)
