"""A stock item is published only up to its first bad row: what is calculated from the later days is wrong, too."""

from migrations.script import execute

revision = "0021_what_follows"
down_revision = "0020_latest_intervals"
branch_labels = None
depends_on = None

_IS_OF_ITEMS = """(failures @? '$[*] ? (@.check == "rows-quarantined")'
                   AND NOT failures @? '$[*] ? (@.check != "rows-quarantined")')"""


def upgrade() -> None:
    """Leave out what follows from a date that failed: all of it, or that of the stock items with bad rows."""
    execute("""
        CREATE INDEX quarantine_item_idx ON quarantine ((payload->>'sku'), (payload->>'warehouse_id'), date);
    """)
    for view, table in (("snapshots_v1", "daily_snapshot"), ("daily_metrics_v1", "daily_metric")):
        execute(f"""
            CREATE OR REPLACE VIEW {view} AS
                SELECT * FROM {table} AS published
                 WHERE date < coalesce((SELECT min(date) FROM partition_quality
                                         WHERE status = 'failed' AND NOT {_IS_OF_ITEMS}), 'infinity')
                   AND NOT EXISTS (SELECT FROM partition_quality AS quality
                                    WHERE quality.date = published.date AND quality.status = 'failed')
                   AND NOT EXISTS (SELECT FROM quarantine AS bad
                                    WHERE bad.payload->>'sku' = published.sku
                                      AND bad.payload->>'warehouse_id' = published.warehouse_id
                                      AND bad.date < published.date AND bad.dataset = 'ledger_entries');
            COMMENT ON VIEW {view} IS
                'Without the dates that failed their quality check, and without what later dates have from them.';
        """)
    execute("""
        CREATE OR REPLACE VIEW movement_aggregates_v1 AS
            SELECT * FROM movement_aggregate AS published
             WHERE NOT EXISTS (SELECT FROM partition_quality AS quality
                                WHERE quality.status = 'failed' AND quality.date >= published.date
                                  AND quality.date <= published.date + CASE grain WHEN 'week' THEN 6 ELSE 0 END);
        COMMENT ON VIEW movement_aggregates_v1 IS
            'Without the dates that failed their quality check, and without the weeks that hold one.';
    """)
