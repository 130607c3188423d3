"""What the batch jobs replace: daily snapshots and metrics, aggregates, and the state of every partition."""

from migrations.script import execute

revision = "0007_batch_datasets"
down_revision = "0006_sequence_gaps"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the outputs of the jobs, what is known of their partitions, and the published views."""
    _create_partition_state()
    _create_datasets()
    _publish()


def _create_partition_state() -> None:
    execute("""
        CREATE TABLE dataset_watermark (
            dataset text COLLATE "C" PRIMARY KEY,
            xid bigint NOT NULL,
            updated_at timestamptz NOT NULL DEFAULT now()
        );
        COMMENT ON TABLE dataset_watermark IS 'Every transaction before xid has been read into the dataset.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON dataset_watermark TO stockflow_pipeline;

        CREATE TABLE dataset_partition (
            dataset text COLLATE "C" NOT NULL,
            date date NOT NULL,
            watermark bigint NOT NULL,
            rows bigint NOT NULL,
            run_id uuid NOT NULL,
            replaced_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (dataset, date)
        );
        COMMENT ON TABLE dataset_partition IS 'How fresh each partition is: what was calculated from which data.';
        COMMENT ON COLUMN dataset_partition.watermark IS
            'The partition holds what transactions before this id wrote. Nothing older replaces it.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON dataset_partition TO stockflow_pipeline;

        CREATE TABLE partition_quality (
            date date PRIMARY KEY,
            status text COLLATE "C" NOT NULL CHECK (status IN ('passed', 'failed')),
            failures jsonb NOT NULL DEFAULT '[]',
            run_id uuid NOT NULL,
            checked_at timestamptz NOT NULL DEFAULT now()
        );
        COMMENT ON TABLE partition_quality IS 'Published views leave out the dates that failed.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON partition_quality TO stockflow_pipeline;

        CREATE TABLE quarantine (
            dataset text COLLATE "C" NOT NULL,
            date date NOT NULL,
            row_key text NOT NULL,
            rule_ids text[] NOT NULL,
            payload jsonb NOT NULL,
            run_id uuid NOT NULL,
            quarantined_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (dataset, date, row_key)
        );
        COMMENT ON TABLE quarantine IS 'Rows that broke a blocking rule, as they were; replaced with their date.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON quarantine TO stockflow_pipeline;
    """)


def _create_datasets() -> None:
    execute("""
        CREATE TABLE daily_snapshot (
            date date NOT NULL,
            sku text COLLATE "C" NOT NULL,
            warehouse_id text COLLATE "C" NOT NULL,
            quantity_on_hand bigint NOT NULL,
            units_in bigint NOT NULL,
            units_out bigint NOT NULL,
            product_name text,
            category_id text COLLATE "C",
            category_name text,
            warehouse_name text,
            stock_value numeric,
            PRIMARY KEY (date, sku, warehouse_id)
        );
        COMMENT ON TABLE daily_snapshot IS 'Every stock item that ever moved, as it stood at the end of the UTC date.';
        COMMENT ON COLUMN daily_snapshot.quantity_on_hand IS 'By the time at which movements happened.';
        COMMENT ON COLUMN daily_snapshot.stock_value IS 'quantity_on_hand x unit cost of the product.';

        CREATE TABLE daily_metric (
            date date NOT NULL,
            sku text COLLATE "C" NOT NULL,
            warehouse_id text COLLATE "C" NOT NULL,
            demand_7 bigint NOT NULL,
            demand_30 bigint NOT NULL,
            demand_90 bigint NOT NULL,
            velocity_7 double precision NOT NULL,
            velocity_30 double precision NOT NULL,
            velocity_90 double precision NOT NULL,
            sd_daily_7 double precision NOT NULL,
            sd_daily_30 double precision NOT NULL,
            sd_daily_90 double precision NOT NULL,
            change_ratio_30d double precision,
            slope_per_day double precision NOT NULL,
            t_statistic double precision,
            direction text COLLATE "C" NOT NULL,
            turnover_30 double precision,
            turnover_90 double precision,
            days_of_supply double precision,
            stockout_risk double precision CHECK (stockout_risk BETWEEN 0 AND 1),
            PRIMARY KEY (date, sku, warehouse_id)
        );
        COMMENT ON TABLE daily_metric IS 'Metrics of every stock item as of the date: velocity.py, trend.py.';

        CREATE TABLE movement_aggregate (
            date date NOT NULL,
            grain text COLLATE "C" NOT NULL CHECK (grain IN ('hour', 'day', 'week')),
            bucket_start timestamptz NOT NULL,
            dimension text COLLATE "C" NOT NULL CHECK (dimension IN ('sku', 'warehouse', 'category')),
            key text COLLATE "C" NOT NULL,
            movements bigint NOT NULL,
            units_in bigint NOT NULL,
            units_out bigint NOT NULL,
            demand bigint NOT NULL,
            value numeric NOT NULL,
            PRIMARY KEY (date, grain, dimension, bucket_start, key)
        );
        COMMENT ON COLUMN movement_aggregate.date IS 'The UTC date of an hour or day, the Monday of a week.';
        COMMENT ON COLUMN movement_aggregate.key IS 'sku, warehouse_id, or category_id (empty where there is none).';

        GRANT SELECT, INSERT, UPDATE, DELETE ON daily_snapshot, daily_metric, movement_aggregate TO stockflow_pipeline;
    """)


def _publish() -> None:
    for view, table in (
        ("snapshots_v1", "daily_snapshot"),
        ("daily_metrics_v1", "daily_metric"),
        ("movement_aggregates_v1", "movement_aggregate"),
    ):
        execute(f"""
            CREATE VIEW {view} AS
                SELECT * FROM {table} AS published
                 WHERE NOT EXISTS (SELECT FROM partition_quality AS quality
                                    WHERE quality.date = published.date AND quality.status = 'failed');
            COMMENT ON VIEW {view} IS 'Without the dates that failed their quality check.';
            GRANT SELECT ON {view} TO stockflow_pipeline, stockflow_analytics, stockflow_batch;
        """)
