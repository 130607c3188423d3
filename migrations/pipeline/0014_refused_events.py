"""Events that the broker does not take are set aside; floods of dead letters show."""

from migrations import event_tables

revision = "0014_refused_events"
down_revision = "0013_edited_dead_letters"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    event_tables.add_refusals("stockflow_pipeline")
    event_tables.add_dead_letters_in_a_row()
