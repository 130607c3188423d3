"""What a person put in the place of a dead letter's record, so that a rebuild applies it again."""

from migrations import event_tables
from migrations.script import execute

revision = "0013_edited_dead_letters"
down_revision = "0012_runs_of_a_warehouse"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and let a rebuild delete metrics of stock items that no event accounts for."""
    event_tables.add_edited_value()
    execute("GRANT DELETE ON stock_metric TO stockflow_pipeline")
