"""Every ledger entry continues the one before it, and the view of stock levels counts no hold that is overdue."""

from migrations.script import execute

revision = "0004_balances_continue"
down_revision = "0003_extraction"
branch_labels = None
depends_on = None


# The plan of a function is kept, even when it was made for an empty ledger. No scan of the table and, by its order, no
# other index than the primary key: that serves a ledger of any size.
BALANCES = """
CREATE FUNCTION refuse_broken_balance() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    broken record;
BEGIN
    SELECT written.sku, written.warehouse_id, written.sequence, written.quantity_before INTO broken
      FROM written
      LEFT JOIN LATERAL (SELECT entry.sequence, entry.quantity_after
                           FROM ledger_entry AS entry
                          WHERE entry.sku = written.sku AND entry.warehouse_id = written.warehouse_id
                            AND entry.sequence < written.sequence
                          ORDER BY entry.sequence DESC
                          LIMIT 1) AS previous ON true
     WHERE (coalesce(previous.sequence, 0) + 1, coalesce(previous.quantity_after, 0))
           <> (written.sequence, written.quantity_before)
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entry % of % in % starts from %, which is not where the entry before it ended',
            broken.sequence, broken.sku, broken.warehouse_id, broken.quantity_before
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'balance_continues';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER balance_continues AFTER INSERT ON ledger_entry REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_broken_balance();
"""

# Swept or not, units whose time is up are available: as REST says it.
STOCK_LEVELS = """
CREATE OR REPLACE VIEW stock_levels_v1 AS
    SELECT level.sku, level.warehouse_id, level.quantity_on_hand,
           level.quantity_reserved - coalesce(overdue.units, 0) AS quantity_reserved,
           level.quantity_available + coalesce(overdue.units, 0) AS quantity_available,
           level.reorder_point, level.reorder_quantity, level.sequence, level.revision, level.updated_at
      FROM stock_level AS level
      LEFT JOIN (SELECT sku, warehouse_id, sum(outstanding)::bigint AS units
                   FROM allocation
                  WHERE outstanding > 0 AND expires_at <= statement_timestamp()
                  GROUP BY sku, warehouse_id) AS overdue USING (sku, warehouse_id);
"""

# A level that was created for a document that is refused in the end is taken back; foreign keys hold every other.
GRANTS = "GRANT DELETE ON stock_level TO stockflow_inventory"


def upgrade() -> None:
    """Check the entries of each INSERT against their predecessors, and replace the view."""
    for statements in (BALANCES, STOCK_LEVELS, GRANTS):
        execute(statements)
