"""Gaps in the sequences of stock items as a fact of data quality, for the rules and for readers outside."""

from migrations.script import execute

revision = "0006_sequence_gaps"
down_revision = "0005_runs"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Publish every gap that was ever found, with what of it has not arrived until now."""
    execute("""
        CREATE VIEW sequence_gaps_v1 AS
            SELECT sku, warehouse_id, gap.first_sequence, gap.last_sequence, detected_at,
                   position.missing * int8multirange(int8range(gap.first_sequence, gap.last_sequence, '[]')) AS missing
              FROM sequence_gap AS gap JOIN stock_position AS position USING (sku, warehouse_id);
        COMMENT ON VIEW sequence_gaps_v1 IS
            'Ledger entries that later ones have overtaken. A gap is closed when its missing is empty.';
        GRANT SELECT ON sequence_gaps_v1 TO stockflow_pipeline, stockflow_analytics, stockflow_batch;
    """)
