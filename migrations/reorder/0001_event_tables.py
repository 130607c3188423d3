"""Event tables of reorder."""

from migrations import event_tables

revision = "0001_event_tables"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables for publishing and consuming events."""
    event_tables.create_outbox("stockflow_reorder")
    event_tables.create_consumer_offset("stockflow_reorder")
    event_tables.create_dead_letter("stockflow_reorder")
