"""When the schedule of each job was switched on: what lies before is a backfill."""

from migrations.script import execute

revision = "0015_job_schedules"
down_revision = "0014_refused_events"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; a job that the scheduler has started before begins with its first interval."""
    execute("""
        CREATE TABLE job_schedule (
            job text COLLATE "C" PRIMARY KEY,
            interval_start timestamptz NOT NULL,
            switched_on_at timestamptz NOT NULL
        );
        COMMENT ON TABLE job_schedule IS 'When the schedule of a job was switched on. Runs by hand do not move it.';
        COMMENT ON COLUMN job_schedule.interval_start IS 'Of the first interval that the schedule owes.';
        INSERT INTO job_schedule (job, interval_start, switched_on_at)
        SELECT job, min(interval_start), min(requested_at) FROM run
         WHERE requested_by = 'scheduler' AND warehouse_id IS NULL GROUP BY job;
        GRANT SELECT, INSERT ON job_schedule TO stockflow_pipeline;
    """)
