"""Events that the broker does not take are set aside."""

from migrations import event_tables

revision = "0005_refused_events"
down_revision = "0004_balances_continue"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    event_tables.add_refusals("stockflow_inventory")
