"""Daily metrics tell the ABC and the XYZ class of a stock item."""

from migrations.script import execute

revision = "0016_classes"
down_revision = "0015_job_schedules"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, which are null until a date is calculated again, and show them in the view."""
    execute("""
        ALTER TABLE daily_metric
            ADD COLUMN abc_class text COLLATE "C" CHECK (abc_class IN ('A', 'B', 'C')),
            ADD COLUMN xyz_class text COLLATE "C" CHECK (xyz_class IN ('X', 'Y', 'Z'));
        COMMENT ON COLUMN daily_metric.abc_class IS 'By use value among the stock items of the warehouse.';
        COMMENT ON COLUMN daily_metric.xyz_class IS 'By how much daily demand varies.';

        CREATE OR REPLACE VIEW daily_metrics_v1 AS
            SELECT * FROM daily_metric AS published
             WHERE NOT EXISTS (SELECT FROM partition_quality AS quality
                                WHERE quality.date = published.date AND quality.status = 'failed');
    """)
