"""The tables that publishing and consuming need, the same in every schema: see docs/architecture.md.

Each function creates one table in the current schema and grants it to the service's role. A version file calls them
once; a later change of such a table is a version file of its own.
"""

from migrations.script import execute


def create_outbox(role: str) -> None:
    """Events that are committed with their cause and wait for the relay, who deletes them once the broker has them."""
    execute(f"""
        CREATE TABLE outbox (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            shard smallint NOT NULL CHECK (shard BETWEEN 0 AND 15),
            topic text NOT NULL,
            key text NOT NULL,
            value bytea NOT NULL,
            headers jsonb NOT NULL DEFAULT '{{}}',
            event_id uuid NOT NULL CONSTRAINT outbox_event_id_key UNIQUE,
            created_at timestamptz NOT NULL DEFAULT now()
        ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
        CREATE INDEX outbox_shard_id_idx ON outbox (shard, id);
        COMMENT ON TABLE outbox IS 'Events to publish. Debezium outbox event router equivalents stand on the columns.';
        COMMENT ON COLUMN outbox.id IS 'Rises in commit order per key: the row of the stock item is locked before.';
        COMMENT ON COLUMN outbox.shard IS 'crc32(key) modulo 16: one relay owns a shard at a time.';
        COMMENT ON COLUMN outbox.topic IS 'aggregatetype (route.by.field): the topic.';
        COMMENT ON COLUMN outbox.key IS 'aggregateid (table.field.event.key): the record key.';
        COMMENT ON COLUMN outbox.value IS 'payload (table.field.event.payload): the record value, a JSON object.';
        COMMENT ON COLUMN outbox.headers IS 'additional placement in the header: name -> text.';
        COMMENT ON COLUMN outbox.event_id IS 'id (table.field.event.id): eventId of the event.';
        GRANT SELECT, INSERT, DELETE ON outbox TO {role};
    """)


def create_consumer_offset(role: str) -> None:
    """How far each consumer group has come; advanced in the transaction of the results."""
    execute(f"""
        CREATE TABLE consumer_offset (
            group_name text NOT NULL,
            topic text NOT NULL,
            partition integer NOT NULL,
            next_offset bigint CHECK (next_offset >= 0),
            anchor_event_id text,
            epoch bigint NOT NULL DEFAULT 0,
            owner text,
            updated_at timestamptz NOT NULL DEFAULT now(),
            max_event_time timestamptz,
            PRIMARY KEY (group_name, topic, partition)
        ) WITH (fillfactor = 50);
        COMMENT ON COLUMN consumer_offset.next_offset IS
            'The first offset that is not applied yet; NULL until the group has written for this partition.';
        COMMENT ON COLUMN consumer_offset.anchor_event_id IS
            'eventId of the record before next_offset: another one there means that the topic was recreated.';
        COMMENT ON COLUMN consumer_offset.epoch IS 'Rises with every claim; a write with an older one is refused.';
        COMMENT ON COLUMN consumer_offset.owner IS 'The process that claimed the partition last.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON consumer_offset TO {role};
    """)


def add_consumer_errors() -> None:
    """Why a group does not go on, for those who watch it."""
    execute("""
        ALTER TABLE consumer_offset ADD COLUMN last_error text, ADD COLUMN last_error_at timestamptz;
        COMMENT ON COLUMN consumer_offset.last_error IS
            'Why the last write was put off, to be tried again; NULL as soon as one succeeds.';
    """)


def create_dead_letter(role: str) -> None:
    """Records that could not be applied, kept whole until somebody resolves or discards them."""
    execute(f"""
        CREATE TABLE dead_letter (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            group_name text NOT NULL,
            topic text NOT NULL,
            partition integer NOT NULL,
            record_offset bigint NOT NULL,
            key bytea,
            value bytea,
            headers jsonb NOT NULL DEFAULT '[]',
            event_type text,
            event_id text,
            error_class text NOT NULL,
            error text NOT NULL,
            status text NOT NULL DEFAULT 'pending'
                CHECK (status IN ('pending', 'retrying', 'resolved', 'discarded')),
            attempts integer NOT NULL DEFAULT 1,
            record_timestamp timestamptz NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            resolved_by text,
            note text,
            CONSTRAINT dead_letter_record_key UNIQUE (group_name, topic, partition, record_offset)
        );
        CREATE INDEX dead_letter_status_id_idx ON dead_letter (status, id);
        COMMENT ON COLUMN dead_letter.value IS 'The record as it was, byte for byte.';
        COMMENT ON COLUMN dead_letter.record_timestamp IS 'Kafka record time: when it was sent.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON dead_letter TO {role};
    """)


def add_edited_value() -> None:
    """What was applied in place of a dead letter's record."""
    execute("""
        ALTER TABLE dead_letter ADD COLUMN edited_value bytea;
        COMMENT ON COLUMN dead_letter.edited_value IS
            'What was applied in place of the record; NULL unless it was edited. A rebuild applies it again.';
    """)


def add_refusals(role: str) -> None:
    """Events that the broker does not take, set aside so that those behind them are sent."""
    execute(f"""
        ALTER TABLE outbox ADD COLUMN refusal text;
        COMMENT ON COLUMN outbox.refusal IS
            'Why the broker refused the event, which is not sent any more; set it to NULL to have it sent again.';
        GRANT UPDATE (refusal) ON outbox TO {role};
    """)


def add_dead_letters_in_a_row() -> None:
    """How many records in a row a group could not apply, for those who watch it."""
    execute("""
        ALTER TABLE consumer_offset ADD COLUMN dead_letters_in_a_row integer NOT NULL DEFAULT 0;
        COMMENT ON COLUMN consumer_offset.dead_letters_in_a_row IS
            'Records before next_offset that became dead letters without one between them that was applied.';
    """)
