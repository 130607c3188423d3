"""Which data of a date were checked, when a mail was first tried, and no snooze that Python has no instant for."""

from migrations.script import execute

revision = "0017_quality_watermarks"
down_revision = "0016_classes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Dates that were checked before are checked again."""
    execute("""
        ALTER TABLE partition_quality ADD COLUMN watermark bigint NOT NULL DEFAULT 0;
        COMMENT ON COLUMN partition_quality.watermark IS
            'That of the partition of ledger_entries that was checked; a partition with a later one is due.';
    """)
    execute("""
        ALTER TABLE mail_delivery ADD COLUMN first_attempt_at timestamptz;
        UPDATE mail_delivery SET first_attempt_at = created_at FROM mail
         WHERE mail.message_id = mail_delivery.message_id AND attempts > 0;
    """)
    execute("""
        UPDATE alert SET snoozed_until = now() + interval '366 days'
         WHERE snoozed_until > now() + interval '366 days'
    """)
