"""What extraction by other systems asks for: entries since a transaction id, and entries of some days."""

from migrations.script import execute

revision = "0003_extraction"
down_revision = "0002_stock"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index the ledger by transaction id, and coarsely by time: both rise as rows are added, so both stay cheap."""
    execute("""
        CREATE INDEX ledger_entry_xid ON ledger_entry (xid);
        CREATE INDEX ledger_entry_occurred_at ON ledger_entry USING brin (occurred_at);
    """)
