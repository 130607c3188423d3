"""Facts partitioned by month, so that old months can go at once and queries of a period read that period only."""

from migrations.script import execute

revision = "0010_partitions"
down_revision = "0009_consumer_errors"
branch_labels = None
depends_on = None

FACTS = (("hourly_movement", "bucket_start"), ("daily_movement", "date"))


def upgrade() -> None:
    """Make the fact tables partitioned ones, whose default partitions are the tables that there were."""
    execute("DROP VIEW hourly_movements_v1, daily_movements_v1")
    for table, bucket in FACTS:
        _partition(table, bucket)
    _create_fact_retention()
    _create_functions()
    _publish()


def _partition(table: str, bucket: str) -> None:
    """Nothing is copied: what there is becomes the default partition, from which maintenance moves whole months.

    The indexes that come along serve these queries, within the partitions that remain after pruning:
    - primary key (sku, warehouse_id, bucket, transaction_type): the stream's ON CONFLICT merge; the windows of the
      metrics, which read up to 90 days of given stock items (four months); a stock item's movements;
    - daily_movement (date, warehouse_id): movements of some days, of all warehouses or one (REST, weekly summary).
    Hourly facts are read by primary key only, so they have no other index.
    """
    execute(f"""
        ALTER TABLE {table} RENAME TO {table}_default;
        ALTER INDEX {table}_pkey RENAME TO {table}_default_pkey;
        ALTER INDEX IF EXISTS {table}_date_idx RENAME TO {table}_default_date_idx;
        CREATE TABLE {table} (LIKE {table}_default INCLUDING ALL) PARTITION BY RANGE ({bucket});
        ALTER TABLE {table} ATTACH PARTITION {table}_default DEFAULT;
        COMMENT ON TABLE {table}_default IS 'Months without a partition of their own: no event is refused.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO stockflow_pipeline;
    """)


def _create_fact_retention() -> None:
    execute("""
        CREATE TABLE fact_retention (
            fact text COLLATE "C" PRIMARY KEY,
            kept_from date NOT NULL
        );
        COMMENT ON TABLE fact_retention IS 'Facts of dates before kept_from have been dropped.';
        GRANT SELECT ON fact_retention TO stockflow_pipeline;
    """)


def _create_functions() -> None:
    """The runtime role may create no tables, so these functions, which may, run as the owner of the schema."""
    execute("""
        CREATE FUNCTION create_fact_partition(fact text, month date) RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pipeline, pg_temp SET timezone = 'UTC' AS $$
        DECLARE
            first_day CONSTANT date := date_trunc('month', month);
            next_month CONSTANT date := first_day + interval '1 month';
            partition_name CONSTANT text := fact || '_' || to_char(first_day, 'YYYY_MM');
            bucket CONSTANT text := CASE fact WHEN 'hourly_movement' THEN 'bucket_start'
                                              WHEN 'daily_movement' THEN 'date' END;
            moved bigint;
        BEGIN
            IF bucket IS NULL THEN
                RAISE EXCEPTION '% is no fact table', fact;
            END IF;
            -- Before anything is looked at. Writers wait; readers go on until the partition is attached.
            EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', fact);
            IF to_regclass(partition_name) IS NOT NULL THEN
                RETURN NULL;
            END IF;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) WITH (fillfactor = 80)', partition_name, fact);
            EXECUTE format('WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %2$I < %4$L RETURNING *)'
                           'INSERT INTO %5$I SELECT * FROM moved',
                           fact || '_default', bucket, first_day, next_month, partition_name);
            GET DIAGNOSTICS moved = ROW_COUNT;
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           fact, partition_name, first_day, next_month);
            RETURN moved;
        END $$;
        COMMENT ON FUNCTION create_fact_partition IS
            'Gives a month its own partition and moves its rows there; how many, null where it had one already.';

        CREATE FUNCTION drop_facts_before(fact text, day date) RETURNS text[]
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pipeline, pg_temp SET timezone = 'UTC' AS $$
        DECLARE
            first_kept CONSTANT date := date_trunc('month', day);
            bucket CONSTANT text := CASE fact WHEN 'hourly_movement' THEN 'bucket_start'
                                              WHEN 'daily_movement' THEN 'date' END;
            partition_name text;
            dropped text[] := '{}';
        BEGIN
            IF bucket IS NULL THEN
                RAISE EXCEPTION '% is no fact table', fact;
            END IF;
            EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', fact);
            FOR partition_name IN
                SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid
                 WHERE inhparent = fact::regclass
                   AND relname ~ '_[0-9]{4}_[0-9]{2}$' AND to_date(right(relname, 7), 'YYYY_MM') < first_kept
                 ORDER BY relname
            LOOP
                EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', fact, partition_name);
                EXECUTE format('DROP TABLE %I', partition_name);
                dropped := dropped || partition_name;
            END LOOP;
            EXECUTE format('DELETE FROM %I WHERE %I < %L', fact || '_default', bucket, first_kept);
            INSERT INTO fact_retention (fact, kept_from) VALUES (drop_facts_before.fact, first_kept)
            ON CONFLICT ON CONSTRAINT fact_retention_pkey
            DO UPDATE SET kept_from = greatest(fact_retention.kept_from, excluded.kept_from);
            RETURN dropped;
        END $$;
        COMMENT ON FUNCTION drop_facts_before IS 'Drops the months before that of the day; the partitions dropped.';

        REVOKE ALL ON FUNCTION create_fact_partition, drop_facts_before FROM PUBLIC;
        GRANT EXECUTE ON FUNCTION create_fact_partition, drop_facts_before TO stockflow_pipeline;
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
        COMMENT ON VIEW daily_movements_v1 IS 'An opening balance has units, but is not a movement.';
        COMMENT ON VIEW hourly_movements_v1 IS 'An opening balance has units, but is not a movement.';
        GRANT SELECT ON hourly_movements_v1, daily_movements_v1
           TO stockflow_pipeline, stockflow_analytics, stockflow_batch;
    """)
