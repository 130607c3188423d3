"""Low stock alerts, weekly summaries, and the mails that tell of both."""

from migrations.script import execute

revision = "0008_alerts_and_reports"
down_revision = "0007_batch_datasets"
branch_labels = None
depends_on = None

READERS = "stockflow_pipeline, stockflow_analytics, stockflow_batch"


def upgrade() -> None:
    """Create the tables and the published views."""
    _create_alert()
    _create_mail()
    _create_weekly_summary()
    _publish()


def _create_alert() -> None:
    execute("""
        CREATE TABLE alert (
            alert_id uuid PRIMARY KEY,
            sku text COLLATE "C" NOT NULL,
            warehouse_id text COLLATE "C" NOT NULL,
            status text COLLATE "C" NOT NULL CHECK (status IN ('open', 'acknowledged', 'snoozed', 'resolved')),
            severity text COLLATE "C" NOT NULL CHECK (severity IN ('info', 'warning', 'error', 'critical')),
            quantity_available bigint NOT NULL,
            reorder_point bigint,
            velocity_per_day double precision NOT NULL,
            days_of_supply double precision,
            stockout_risk double precision NOT NULL CHECK (stockout_risk BETWEEN 0 AND 1),
            suggested_action text NOT NULL,
            revision bigint NOT NULL CHECK (revision >= 1),
            opened_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            acknowledged_at timestamptz,
            acknowledged_by text,
            snoozed_until timestamptz,
            resolved_at timestamptz,
            resolved_by text,
            notice text COLLATE "C" CHECK (notice IN ('opened', 'escalated', 'reminded', 'recovered')),
            told_severity text COLLATE "C",
            thread_id text,
            CONSTRAINT snoozed_has_an_end CHECK ((status = 'snoozed') = (snoozed_until IS NOT NULL)),
            CONSTRAINT resolved_is_dated CHECK ((status = 'resolved') = (resolved_at IS NOT NULL))
        ) WITH (fillfactor = 80);
        CREATE UNIQUE INDEX one_live_alert ON alert (sku, warehouse_id) WHERE status <> 'resolved';
        CREATE INDEX alert_latest_idx ON alert (opened_at DESC, alert_id DESC);
        CREATE INDEX alert_notice_idx ON alert (warehouse_id, sku) WHERE notice IS NOT NULL;
        COMMENT ON TABLE alert IS
            'Stock items that are low or likely to run out. At most one alert of an item is live.';
        COMMENT ON COLUMN alert.velocity_per_day IS 'Of the last 30 days.';
        COMMENT ON COLUMN alert.stockout_risk IS
            'That demand outruns what is available before a delivery could arrive.';
        COMMENT ON COLUMN alert.resolved_by IS 'Who resolved it; null when the stock has recovered.';
        COMMENT ON COLUMN alert.notice IS 'What of the alert nobody has been told yet.';
        COMMENT ON COLUMN alert.told_severity IS 'The worst that was told: only what is worse is told again.';
        COMMENT ON COLUMN alert.thread_id IS 'Message-ID of the mail that told of it first.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON alert TO stockflow_pipeline;
    """)


def _create_mail() -> None:
    execute("""
        CREATE TABLE mail (
            message_id text PRIMARY KEY,
            sender text NOT NULL,
            subject text NOT NULL,
            content bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        );
        COMMENT ON COLUMN mail.content IS 'The whole message as it is sent, headers included.';

        CREATE TABLE mail_delivery (
            message_id text NOT NULL REFERENCES mail ON DELETE CASCADE,
            recipient text NOT NULL,
            attempts integer NOT NULL DEFAULT 0,
            next_attempt_at timestamptz NOT NULL DEFAULT now(),
            sent_at timestamptz,
            given_up_at timestamptz,
            error text,
            PRIMARY KEY (message_id, recipient),
            CONSTRAINT sent_or_given_up CHECK (sent_at IS NULL OR given_up_at IS NULL)
        ) WITH (fillfactor = 80);
        CREATE INDEX mail_delivery_due_idx ON mail_delivery (next_attempt_at)
            WHERE sent_at IS NULL AND given_up_at IS NULL;
        COMMENT ON TABLE mail_delivery IS 'Each recipient by itself, so that one refused address delays nobody else.';
        COMMENT ON COLUMN mail_delivery.next_attempt_at IS
            'Set ahead when an attempt begins: a sender that dies leaves nothing to clean up.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON mail, mail_delivery TO stockflow_pipeline;
    """)


def _create_weekly_summary() -> None:
    execute("""
        CREATE TABLE weekly_stock_item (
            week date NOT NULL,
            sku text COLLATE "C" NOT NULL,
            warehouse_id text COLLATE "C" NOT NULL,
            movements bigint NOT NULL,
            units_in numeric NOT NULL,
            units_out numeric NOT NULL,
            demand numeric NOT NULL,
            sales_value numeric NOT NULL,
            quantity_on_hand numeric NOT NULL,
            stock_value numeric,
            empty_days date[] NOT NULL,
            PRIMARY KEY (week, sku, warehouse_id),
            CONSTRAINT week_begins_on_monday CHECK (extract(isodow FROM week) = 1)
        );
        COMMENT ON TABLE weekly_stock_item IS 'Stock items of a week: what moved, what sells, and what lies there.';
        COMMENT ON COLUMN weekly_stock_item.week IS 'Its Monday; the week ends with the Sunday after it (UTC).';
        COMMENT ON COLUMN weekly_stock_item.quantity_on_hand IS 'At the end of the week.';
        COMMENT ON COLUMN weekly_stock_item.stock_value IS
            'At the end of the week, at unit cost; null if that is unknown.';
        COMMENT ON COLUMN weekly_stock_item.empty_days IS
            'Dates that ended with nothing on hand, if the item sells at all.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON weekly_stock_item TO stockflow_pipeline;

        CREATE TABLE report (
            report_id uuid PRIMARY KEY,
            kind text COLLATE "C" NOT NULL CHECK (kind = 'weekly_summary'),
            week date NOT NULL,
            content jsonb NOT NULL,
            html text NOT NULL,
            html_policy text NOT NULL,
            generated_at timestamptz NOT NULL,
            published_at timestamptz,
            UNIQUE (kind, week)
        );
        CREATE INDEX report_latest_idx ON report (week DESC, report_id DESC);
        COMMENT ON COLUMN report.html_policy IS 'The Content-Security-Policy that the page is served under.';
        COMMENT ON COLUMN report.published_at IS 'Since when readers see it; a draft until then.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON report TO stockflow_pipeline;
    """)


def _publish() -> None:
    execute(f"""
        CREATE VIEW alerts_v1 AS
            SELECT alert_id, sku, warehouse_id, status, severity, quantity_available, reorder_point, velocity_per_day,
                   days_of_supply, stockout_risk, suggested_action, revision, opened_at, updated_at, acknowledged_at,
                   acknowledged_by, snoozed_until, resolved_at, resolved_by
              FROM alert;
        CREATE VIEW weekly_summaries_v1 AS
            SELECT report_id, week, content, generated_at, published_at FROM report WHERE published_at IS NOT NULL;
        GRANT SELECT ON alerts_v1, weekly_summaries_v1 TO {READERS};
    """)
