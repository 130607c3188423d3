"""Positions, facts and the clock: what the `stream` process writes."""

from migrations.script import execute

revision = "0002_facts"
down_revision = "0001_event_tables"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of the stream and their published views."""
    _create_stock_position()
    _create_facts()
    _create_external_update()
    _create_clock()
    _create_dirty_stock_item()
    _publish()


def _create_stock_position() -> None:
    execute("""
        CREATE TABLE stock_position (
            sku text COLLATE "C" NOT NULL,
            warehouse_id text COLLATE "C" NOT NULL,
            last_sequence bigint NOT NULL DEFAULT 0 CHECK (last_sequence >= 0),
            missing int8multirange NOT NULL DEFAULT '{}',
            revision bigint NOT NULL DEFAULT 0,
            quantity_on_hand bigint NOT NULL DEFAULT 0,
            quantity_reserved bigint NOT NULL DEFAULT 0,
            threshold_revision bigint NOT NULL DEFAULT 0,
            reorder_point bigint,
            reorder_quantity bigint,
            last_movement_date date,
            updated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (sku, warehouse_id)
        ) WITH (fillfactor = 70);
        COMMENT ON TABLE stock_position IS 'What the stream knows of a stock item. Its row lock guards the facts too.';
        COMMENT ON COLUMN stock_position.missing IS 'Sequences up to last_sequence that have not arrived.';
        COMMENT ON COLUMN stock_position.revision IS 'Of the quantities; a smaller one is not applied.';
        COMMENT ON COLUMN stock_position.threshold_revision IS 'Of reorder_point and reorder_quantity.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON stock_position TO stockflow_pipeline;

        CREATE TABLE sequence_gap (
            sku text COLLATE "C" NOT NULL,
            warehouse_id text COLLATE "C" NOT NULL,
            first_sequence bigint NOT NULL,
            last_sequence bigint NOT NULL,
            detected_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (sku, warehouse_id, first_sequence)
        );
        COMMENT ON TABLE sequence_gap IS
            'Ledger entries that did not arrive in order. Still missing is what stock_position.missing holds.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON sequence_gap TO stockflow_pipeline;
    """)


def _create_facts() -> None:
    for table, bucket, bucket_type in (
        ("hourly_movement", "bucket_start", "timestamptz"),
        ("daily_movement", "date", "date"),
    ):
        execute(f"""
            CREATE TABLE {table} (
                sku text COLLATE "C" NOT NULL,
                warehouse_id text COLLATE "C" NOT NULL,
                {bucket} {bucket_type} NOT NULL,
                transaction_type text COLLATE "C" NOT NULL,
                entries bigint NOT NULL,
                units_in bigint NOT NULL,
                units_out bigint NOT NULL,
                value numeric NOT NULL,
                revision bigint NOT NULL DEFAULT 1,
                last_event_at timestamptz NOT NULL,
                PRIMARY KEY (sku, warehouse_id, {bucket}, transaction_type)
            ) WITH (fillfactor = 80);
            COMMENT ON COLUMN {table}.entries IS 'Ledger entries of the bucket (event time, UTC).';
            COMMENT ON COLUMN {table}.value IS
                'Sum of quantityChange x unitPrice (SALE, RETURN) or unitCost (other types); lines without it count 0.';
            COMMENT ON COLUMN {table}.revision IS 'Rises with every change of the bucket.';
            GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO stockflow_pipeline;
        """)
    execute("CREATE INDEX daily_movement_date_idx ON daily_movement (date, warehouse_id)")


def _create_external_update() -> None:
    execute("""
        CREATE TABLE external_update (
            event_date date NOT NULL,
            event_id uuid NOT NULL,
            origin text NOT NULL DEFAULT 'external',
            sku text COLLATE "C" NOT NULL,
            warehouse_id text COLLATE "C" NOT NULL,
            quantity_change bigint NOT NULL,
            occurred_at timestamptz NOT NULL,
            reference_id text,
            notes text,
            received_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (event_date, event_id)
        );
        COMMENT ON TABLE external_update IS
            'Updates of third parties, which carry no sequence: apart from the facts, once per UTC date and eventId.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON external_update TO stockflow_pipeline;
    """)


def _create_clock() -> None:
    execute("""
        CREATE TABLE clock (
            only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
            as_of date NOT NULL
        );
        COMMENT ON TABLE clock IS 'The latest UTC date among accepted ledger events.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON clock TO stockflow_pipeline;
    """)


def _create_dirty_stock_item() -> None:
    execute("""
        CREATE TABLE dirty_stock_item (
            sku text COLLATE "C" NOT NULL,
            warehouse_id text COLLATE "C" NOT NULL,
            id bigint GENERATED ALWAYS AS IDENTITY,
            bucket_start timestamptz,
            transaction_type text COLLATE "C",
            PRIMARY KEY (sku, warehouse_id, id)
        ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
        COMMENT ON TABLE dirty_stock_item IS
            'Stock items to calculate again, and the hourly bucket that changed (none: only the level or the day did). '
            'Only ever appended to by the stream, so that it never waits for the metrics process.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON dirty_stock_item TO stockflow_pipeline;
    """)


def _publish() -> None:
    movements = "CASE transaction_type WHEN 'OPENING_BALANCE' THEN 0 ELSE entries END AS movements"
    execute(f"""
        CREATE VIEW hourly_movements_v1 AS
            SELECT sku, warehouse_id, bucket_start AS hour, transaction_type, {movements}, units_in, units_out, value,
                   revision
              FROM hourly_movement;
        CREATE VIEW daily_movements_v1 AS
            SELECT sku, warehouse_id, date, transaction_type, {movements}, units_in, units_out, value, revision
              FROM daily_movement;
        CREATE VIEW stock_positions_v1 AS
            SELECT sku, warehouse_id, last_sequence, missing, revision, quantity_on_hand, quantity_reserved,
                   reorder_point, reorder_quantity, last_movement_date, updated_at
              FROM stock_position;
        COMMENT ON VIEW daily_movements_v1 IS 'An opening balance has units, but is not a movement.';
        COMMENT ON VIEW hourly_movements_v1 IS 'An opening balance has units, but is not a movement.';
        GRANT SELECT ON hourly_movements_v1, daily_movements_v1, stock_positions_v1
           TO stockflow_pipeline, stockflow_analytics, stockflow_batch;
    """)
