"""Event tables of inventory."""

from migrations import event_tables

revision = "0001_event_tables"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables for publishing events."""
    event_tables.create_outbox("stockflow_inventory")
