"""Who reads facts while a month gets its partition sees its rows: in the default partition, or in its own."""

from migrations.script import execute

revision = "0023_attached_months"
down_revision = "0022_announced_alerts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let readers wait for the fact table itself while the partition is attached.

    Else they wait for its default partition, with a list of partitions that the new one is not in, and find the month's
    rows in neither.
    """
    execute("""
        CREATE OR REPLACE FUNCTION create_fact_partition(fact text, month date) RETURNS bigint
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
            -- Before anything is looked at. Writers wait; readers go on while rows are moved.
            EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', fact);
            IF to_regclass(partition_name) IS NOT NULL THEN
                RETURN NULL;
            END IF;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) WITH (fillfactor = 80)', partition_name, fact);
            EXECUTE format('WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %2$I < %4$L RETURNING *)'
                           'INSERT INTO %5$I SELECT * FROM moved',
                           fact || '_default', bucket, first_day, next_month, partition_name);
            GET DIAGNOSTICS moved = ROW_COUNT;
            EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', fact);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           fact, partition_name, first_day, next_month);
            RETURN moved;
        END $$;
    """)
