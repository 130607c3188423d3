"""Runs of the batch jobs: what was asked for, what became of each step, and what the steps said."""

from migrations.script import execute

revision = "0005_runs"
down_revision = "0004_exact_sums"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the run ledger."""
    execute("""
        CREATE TABLE run (
            run_id uuid PRIMARY KEY,
            job text COLLATE "C" NOT NULL,
            interval_start timestamptz NOT NULL,
            interval_end timestamptz NOT NULL,
            parameters jsonb NOT NULL DEFAULT '{}',
            status text COLLATE "C" NOT NULL DEFAULT 'queued'
                CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
            attempt integer NOT NULL DEFAULT 0,
            max_attempts integer NOT NULL DEFAULT 1 CHECK (max_attempts >= 1),
            requested_by text NOT NULL,
            requested_at timestamptz NOT NULL DEFAULT now(),
            not_before timestamptz NOT NULL DEFAULT now(),
            started_at timestamptz,
            finished_at timestamptz,
            heartbeat_at timestamptz,
            worker text,
            code_version text,
            cancel_requested_by text,
            error text,
            CONSTRAINT run_interval_not_empty CHECK (interval_start < interval_end)
        ) WITH (fillfactor = 70);
        CREATE INDEX run_requested_idx ON run (requested_at DESC, run_id DESC);
        CREATE INDEX run_job_interval_idx ON run (job, interval_start, interval_end);
        CREATE INDEX run_unfinished_idx ON run (not_before, requested_at) WHERE status IN ('queued', 'running');
        COMMENT ON TABLE run IS 'A job over a data interval [interval_start, interval_end), in UTC.';
        COMMENT ON COLUMN run.attempt IS 'How often the run was begun; an execution of an earlier attempt is fenced.';
        COMMENT ON COLUMN run.not_before IS 'A queued run is not begun earlier: it waits before it is tried again.';
        COMMENT ON COLUMN run.heartbeat_at IS 'Last sign of life of the process that executes the run.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON run TO stockflow_pipeline;

        CREATE TABLE run_step (
            run_id uuid NOT NULL REFERENCES run ON DELETE CASCADE,
            step text COLLATE "C" NOT NULL,
            position integer NOT NULL,
            job text COLLATE "C" NOT NULL,
            interval_start timestamptz NOT NULL,
            interval_end timestamptz NOT NULL,
            status text COLLATE "C" NOT NULL DEFAULT 'queued'
                CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'skipped')),
            attempt integer NOT NULL DEFAULT 0,
            rows_in bigint,
            rows_out bigint,
            watermark_from bigint,
            watermark_to bigint,
            partitions text[] NOT NULL DEFAULT '{}',
            figures jsonb NOT NULL DEFAULT '{}',
            progress_done bigint,
            progress_total bigint,
            cpu_seconds double precision,
            peak_memory_bytes bigint,
            started_at timestamptz,
            finished_at timestamptz,
            error text,
            PRIMARY KEY (run_id, step)
        ) WITH (fillfactor = 70);
        CREATE UNIQUE INDEX run_step_active_key ON run_step (job, step, interval_start, interval_end)
            WHERE status IN ('queued', 'running');
        CREATE INDEX run_step_latest_idx ON run_step (job, step, interval_start, interval_end, finished_at DESC)
            WHERE status = 'succeeded';
        COMMENT ON INDEX run_step_active_key IS 'Nobody computes the same step of the same interval twice at a time.';
        COMMENT ON COLUMN run_step.watermark_from IS 'Transaction ids read: watermark_from <= xid < watermark_to.';
        COMMENT ON COLUMN run_step.partitions IS 'What the step replaced, such as the UTC dates.';
        COMMENT ON COLUMN run_step.figures IS 'What else the step has to tell, for people and for later steps.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON run_step TO stockflow_pipeline;

        CREATE TABLE run_request (
            idempotency_key text COLLATE "C" PRIMARY KEY,
            run_id uuid NOT NULL REFERENCES run ON DELETE CASCADE,
            request_hash bytea NOT NULL,
            requested_at timestamptz NOT NULL DEFAULT now()
        );
        CREATE INDEX run_request_run_idx ON run_request (run_id);
        COMMENT ON TABLE run_request IS 'The same key is answered with the same run, for ever.';
        GRANT SELECT, INSERT, DELETE ON run_request TO stockflow_pipeline;

        CREATE TABLE run_log (
            run_id uuid NOT NULL REFERENCES run ON DELETE CASCADE,
            id bigint GENERATED ALWAYS AS IDENTITY,
            at timestamptz NOT NULL,
            attempt integer NOT NULL,
            step text COLLATE "C",
            level text NOT NULL,
            event text NOT NULL,
            fields jsonb NOT NULL DEFAULT '{}',
            PRIMARY KEY (run_id, id)
        );
        GRANT SELECT, INSERT, DELETE ON run_log TO stockflow_pipeline;
    """)
