"""Events and mails tell of alerts each by itself: a mail waits until somebody can be told."""

from migrations.script import execute

revision = "0022_announced_alerts"
down_revision = "0021_what_follows"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tell apart what an event has told and what a mail has; alerts that no mail has told of wait for one."""
    execute("""
        ALTER TABLE alert ADD event_due_at timestamptz, ADD announced_severity text COLLATE "C";
        COMMENT ON COLUMN alert.event_due_at IS 'Since when an event has to tell of it; null when none has to.';
        COMMENT ON COLUMN alert.announced_severity IS
            'The worst that an event has told: only what is worse is told again.';
        COMMENT ON COLUMN alert.notice IS 'What of the alert no mail has told yet.';
        COMMENT ON COLUMN alert.told_severity IS 'The worst that a mail has told: only what is worse is told again.';
        CREATE INDEX alert_event_due_idx ON alert (warehouse_id, sku) WHERE event_due_at IS NOT NULL;

        UPDATE alert
           SET announced_severity = told_severity,
               event_due_at = CASE WHEN notice <> 'recovered' THEN updated_at END,
               notice = CASE WHEN thread_id IS NOT NULL THEN notice WHEN status <> 'resolved' THEN 'opened' END,
               told_severity = CASE WHEN thread_id IS NOT NULL THEN told_severity END;
    """)
