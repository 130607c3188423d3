"""Why a consumer does not go on, beside its offsets."""

from migrations import event_tables

revision = "0003_consumer_errors"
down_revision = "0002_replenishment"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    event_tables.add_consumer_errors()
