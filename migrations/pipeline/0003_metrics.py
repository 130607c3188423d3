"""Metrics per stock item: what the `metrics` process writes."""

from migrations.script import execute

revision = "0003_metrics"
down_revision = "0002_facts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the metric table, its revisions and its published view."""
    execute("""
        CREATE SEQUENCE metric_revision;
        COMMENT ON SEQUENCE metric_revision IS 'Never reset: caches and histories keep the largest one.';
        GRANT USAGE ON SEQUENCE metric_revision TO stockflow_pipeline;

        CREATE TABLE stock_metric (
            sku text COLLATE "C" NOT NULL,
            warehouse_id text COLLATE "C" NOT NULL,
            as_of date NOT NULL,
            demand_7 bigint NOT NULL DEFAULT 0,
            demand_30 bigint NOT NULL DEFAULT 0,
            demand_90 bigint NOT NULL DEFAULT 0,
            velocity_7 double precision NOT NULL DEFAULT 0,
            velocity_30 double precision NOT NULL DEFAULT 0,
            velocity_90 double precision NOT NULL DEFAULT 0,
            sd_daily_7 double precision NOT NULL DEFAULT 0 CHECK (sd_daily_7 >= 0),
            sd_daily_30 double precision NOT NULL DEFAULT 0 CHECK (sd_daily_30 >= 0),
            sd_daily_90 double precision NOT NULL DEFAULT 0 CHECK (sd_daily_90 >= 0),
            change_ratio_30d double precision,
            slope_per_day double precision NOT NULL DEFAULT 0,
            t_statistic double precision,
            direction text NOT NULL DEFAULT 'FLAT' CHECK (direction IN ('UP', 'DOWN', 'FLAT')),
            revision bigint NOT NULL DEFAULT 0,
            calculated_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (sku, warehouse_id)
        ) WITH (fillfactor = 70);
        COMMENT ON TABLE stock_metric IS 'The latest metrics of a stock item; definitions: velocity.py, trend.py.';
        COMMENT ON COLUMN stock_metric.as_of IS 'The last UTC day of every window.';
        GRANT SELECT, INSERT, UPDATE ON stock_metric TO stockflow_pipeline;

        CREATE TABLE metric_clock (
            only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
            as_of date NOT NULL
        );
        COMMENT ON TABLE metric_clock IS 'The day for which every active stock item was calculated or marked last.';
        GRANT SELECT, INSERT, UPDATE ON metric_clock TO stockflow_pipeline;

        CREATE VIEW stock_metrics_v1 AS
            SELECT sku, warehouse_id, as_of, demand_7, demand_30, demand_90, velocity_7, velocity_30, velocity_90,
                   sd_daily_7, sd_daily_30, sd_daily_90, change_ratio_30d, slope_per_day, t_statistic, direction,
                   revision, calculated_at
              FROM stock_metric;
        GRANT SELECT ON stock_metrics_v1 TO stockflow_pipeline, stockflow_analytics, stockflow_batch;
    """)
