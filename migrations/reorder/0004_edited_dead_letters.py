"""What a person put in the place of a dead letter's record, so that a rebuild applies it again."""

from migrations import event_tables

revision = "0004_edited_dead_letters"
down_revision = "0003_consumer_errors"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    event_tables.add_edited_value()
