"""Runs are not kept for ever, nor are the idempotency keys that they have answered."""

from migrations.script import execute

revision = "0018_run_retention"
down_revision = "0017_quality_watermarks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say so."""
    execute("""
        COMMENT ON TABLE run_request IS 'The same key is answered with the same run, as long as that is kept.'
    """)
