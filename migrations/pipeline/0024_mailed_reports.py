"""A report that nobody could be sent is sent once somebody can be."""

from migrations.script import execute

revision = "0024_mailed_reports"
down_revision = "0023_attached_months"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Remember which reports were mailed; those that are published already count as mailed."""
    execute("""
        ALTER TABLE report ADD mailed_at timestamptz;
        COMMENT ON COLUMN report.mailed_at IS 'When its mail was made; null until there are recipients.';
        UPDATE report SET mailed_at = published_at;
    """)
