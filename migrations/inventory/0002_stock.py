"""Products, warehouses, stock levels, the ledger, reservations, and the views that other services may read."""

from migrations.script import execute

revision = "0002_stock"
down_revision = "0001_event_tables"
branch_labels = None
depends_on = None

VIEW_READERS = "stockflow_pipeline, stockflow_reorder, stockflow_analytics, stockflow_batch"

# Ids compare by bytes, so that the order in which Python sorts stock items is the order in which Postgres locks them.
CATALOGUE = """
CREATE TABLE category (
    category_id  text COLLATE "C" PRIMARY KEY,
    name         text NOT NULL,
    parent_id    text COLLATE "C" CONSTRAINT parent_category_known REFERENCES category,
    status       text NOT NULL DEFAULT 'active',
    version      bigint NOT NULL DEFAULT 1,
    request_hash bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT category_status_known CHECK (status IN ('active', 'archived')),
    CONSTRAINT category_not_its_own_parent CHECK (parent_id <> category_id)
);
CREATE INDEX category_parent ON category (parent_id);

CREATE TABLE product (
    sku             text COLLATE "C" PRIMARY KEY,
    name            text NOT NULL,
    description     text,
    category_id     text COLLATE "C" CONSTRAINT product_category_known REFERENCES category,
    unit_of_measure text NOT NULL DEFAULT 'each',
    unit_cost       numeric(18, 6),
    unit_price      numeric(18, 6),
    shelf_life_days integer,
    status          text NOT NULL DEFAULT 'active',
    attributes      jsonb NOT NULL,
    version         bigint NOT NULL DEFAULT 1,
    request_hash    bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT product_status_known CHECK (status IN ('active', 'archived')),
    CONSTRAINT unit_cost_not_negative CHECK (unit_cost >= 0),
    CONSTRAINT unit_price_not_negative CHECK (unit_price >= 0),
    CONSTRAINT shelf_life_positive CHECK (shelf_life_days > 0)
);
CREATE INDEX product_category ON product (category_id);

CREATE TABLE warehouse (
    warehouse_id text COLLATE "C" PRIMARY KEY,
    name         text NOT NULL,
    timezone     text NOT NULL DEFAULT 'UTC',
    address      jsonb,
    status       text NOT NULL DEFAULT 'active',
    version      bigint NOT NULL DEFAULT 1,
    request_hash bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT warehouse_status_known CHECK (status IN ('active', 'archived'))
);
"""

STOCK = """
CREATE TABLE stock_level (
    sku                text COLLATE "C" NOT NULL REFERENCES product,
    warehouse_id       text COLLATE "C" NOT NULL REFERENCES warehouse,
    quantity_on_hand   bigint NOT NULL DEFAULT 0,
    quantity_reserved  bigint NOT NULL DEFAULT 0,
    quantity_available bigint GENERATED ALWAYS AS (quantity_on_hand - quantity_reserved) STORED,
    reorder_point      bigint,
    reorder_quantity   bigint,
    sequence           bigint NOT NULL DEFAULT 0,
    revision           bigint NOT NULL DEFAULT 0,
    updated_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sku, warehouse_id),
    CONSTRAINT on_hand_not_negative CHECK (quantity_on_hand >= 0),
    CONSTRAINT reserved_not_negative CHECK (quantity_reserved >= 0),
    CONSTRAINT reserved_within_on_hand CHECK (quantity_reserved <= quantity_on_hand),
    CONSTRAINT reorder_point_not_negative CHECK (reorder_point >= 0),
    CONSTRAINT reorder_quantity_positive CHECK (reorder_quantity > 0),
    CONSTRAINT revision_counts_every_entry CHECK (0 <= sequence AND sequence <= revision)
) WITH (fillfactor = 70);
CREATE INDEX stock_level_warehouse ON stock_level (warehouse_id, sku);

CREATE TABLE reservation (
    reservation_id uuid PRIMARY KEY,
    reference_id   text,
    notes          text,
    actor          text NOT NULL,
    source         text NOT NULL,
    request_hash   bytea NOT NULL,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    CONSTRAINT reservation_expires_later CHECK (expires_at > created_at)
);
CREATE INDEX reservation_created ON reservation (created_at, reservation_id);

CREATE TABLE allocation (
    reservation_id     uuid NOT NULL REFERENCES reservation,
    line_no            integer NOT NULL,
    sku                text COLLATE "C" NOT NULL,
    warehouse_id       text COLLATE "C" NOT NULL,
    quantity_requested bigint NOT NULL,
    quantity           bigint NOT NULL,
    fulfilled          bigint NOT NULL DEFAULT 0,
    released           bigint NOT NULL DEFAULT 0,
    outstanding        bigint GENERATED ALWAYS AS (quantity - fulfilled - released) STORED,
    expires_at         timestamptz NOT NULL,
    PRIMARY KEY (reservation_id, line_no),
    FOREIGN KEY (sku, warehouse_id) REFERENCES stock_level,
    CONSTRAINT allocation_quantity_within_request CHECK (0 <= quantity AND quantity <= quantity_requested),
    CONSTRAINT fulfilled_not_negative CHECK (fulfilled >= 0),
    CONSTRAINT released_not_negative CHECK (released >= 0),
    CONSTRAINT never_more_than_allocated CHECK (fulfilled + released <= quantity)
) WITH (fillfactor = 80);
CREATE INDEX allocation_outstanding ON allocation (sku, warehouse_id, expires_at) INCLUDE (outstanding)
    WHERE outstanding > 0;
CREATE INDEX allocation_due ON allocation (expires_at) WHERE outstanding > 0;

CREATE TABLE stock_transaction (
    transaction_id   uuid PRIMARY KEY,
    transaction_type text NOT NULL,
    reference_id     text,
    notes            text,
    reason           text,
    actor            text NOT NULL,
    source           text NOT NULL,
    request_hash     bytea NOT NULL,
    occurred_at      timestamptz NOT NULL,
    recorded_at      timestamptz NOT NULL,
    line_count       integer NOT NULL,
    reverses_id      uuid CONSTRAINT reversed_once UNIQUE REFERENCES stock_transaction,
    reservation_id   uuid REFERENCES reservation,
    xid              xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT transaction_type_known CHECK (transaction_type IN
        ('RECEIPT', 'SALE', 'RETURN', 'OPENING_BALANCE', 'WRITE_OFF', 'ADJUSTMENT', 'TRANSFER', 'COUNT')),
    CONSTRAINT occurred_not_in_future CHECK (occurred_at <= recorded_at + interval '5 minutes'),
    CONSTRAINT line_count_in_range CHECK (line_count BETWEEN 1 AND 1000),
    CONSTRAINT not_its_own_reversal CHECK (reverses_id <> transaction_id)
);
CREATE INDEX stock_transaction_recorded ON stock_transaction (recorded_at, transaction_id);
CREATE INDEX stock_transaction_reference ON stock_transaction (reference_id) WHERE reference_id IS NOT NULL;
CREATE INDEX stock_transaction_reservation ON stock_transaction (reservation_id) WHERE reservation_id IS NOT NULL;

CREATE TABLE ledger_entry (
    sku                     text COLLATE "C" NOT NULL,
    warehouse_id            text COLLATE "C" NOT NULL,
    sequence                bigint NOT NULL,
    transaction_id          uuid NOT NULL REFERENCES stock_transaction,
    line_no                 integer NOT NULL,
    quantity_change         bigint NOT NULL,
    quantity_before         bigint NOT NULL,
    quantity_after          bigint NOT NULL,
    quantity_reserved_after bigint NOT NULL,
    revision                bigint NOT NULL,
    unit_cost               numeric(18, 6),
    unit_price              numeric(18, 6),
    occurred_at             timestamptz NOT NULL,
    recorded_at             timestamptz NOT NULL,
    xid                     xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (sku, warehouse_id, sequence),
    FOREIGN KEY (sku, warehouse_id) REFERENCES stock_level,
    CONSTRAINT one_entry_per_line UNIQUE (transaction_id, line_no),
    CONSTRAINT sequence_starts_at_one CHECK (sequence >= 1),
    CONSTRAINT balance_adds_up CHECK (quantity_after = quantity_before + quantity_change),
    CONSTRAINT balance_not_negative CHECK (quantity_before >= 0 AND quantity_after >= 0),
    CONSTRAINT ledger_reserved_within_on_hand
        CHECK (0 <= quantity_reserved_after AND quantity_reserved_after <= quantity_after)
);
CREATE INDEX ledger_entry_occurred ON ledger_entry (sku, warehouse_id, occurred_at) INCLUDE (quantity_change);
CREATE INDEX ledger_entry_recorded ON ledger_entry (recorded_at);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stock_transaction
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""

REQUESTS = """
CREATE TABLE stock_repair (
    repair_id    uuid PRIMARY KEY,
    plan_id      text,
    reason       text NOT NULL,
    actor        text NOT NULL,
    request_hash bytea NOT NULL,
    undoes_id    uuid CONSTRAINT repair_undone_once UNIQUE REFERENCES stock_repair,
    applied_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX stock_repair_applied ON stock_repair (applied_at, repair_id);

CREATE TABLE stock_repair_item (
    repair_id       uuid NOT NULL REFERENCES stock_repair,
    sku             text COLLATE "C" NOT NULL,
    warehouse_id    text COLLATE "C" NOT NULL,
    on_hand_before  bigint NOT NULL,
    on_hand_after   bigint NOT NULL,
    reserved_before bigint NOT NULL,
    reserved_after  bigint NOT NULL,
    sequence_before bigint NOT NULL,
    sequence_after  bigint NOT NULL,
    revision        bigint NOT NULL,
    PRIMARY KEY (repair_id, sku, warehouse_id),
    FOREIGN KEY (sku, warehouse_id) REFERENCES stock_level
);

CREATE TABLE idempotency_key (
    actor        text NOT NULL,
    key          text NOT NULL,
    request_hash bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (actor, key)
);
"""

VIEWS = """
CREATE VIEW categories_v1 AS SELECT category_id, name, parent_id FROM category;
CREATE VIEW products_v1 AS
    SELECT sku, name, description, category_id, unit_of_measure, unit_cost, unit_price, status, version, updated_at
      FROM product;
CREATE VIEW warehouses_v1 AS SELECT warehouse_id, name, timezone, status, version FROM warehouse;
CREATE VIEW stock_levels_v1 AS
    SELECT sku, warehouse_id, quantity_on_hand, quantity_reserved, quantity_available, reorder_point, reorder_quantity,
           sequence, revision, updated_at
      FROM stock_level;
CREATE VIEW transactions_v1 AS
    SELECT transaction_id, transaction_type, reference_id, notes, actor, source, occurred_at, recorded_at, line_count,
           reverses_id, xid
      FROM stock_transaction;
CREATE VIEW ledger_entries_v1 AS
    SELECT entry.sku, entry.warehouse_id, entry.sequence, entry.transaction_id, document.transaction_type,
           entry.line_no, entry.quantity_change, entry.quantity_before, entry.quantity_after,
           entry.quantity_reserved_after, entry.revision, entry.unit_cost, entry.unit_price, document.reference_id,
           document.source, entry.occurred_at, entry.recorded_at, entry.xid
      FROM ledger_entry AS entry
      JOIN stock_transaction AS document USING (transaction_id);
CREATE VIEW reservations_v1 AS
    SELECT reservation.reservation_id, allocation.line_no, allocation.sku, allocation.warehouse_id,
           allocation.quantity_requested, allocation.quantity, allocation.fulfilled, allocation.released,
           allocation.outstanding, reservation.reference_id, reservation.created_at, reservation.expires_at
      FROM reservation
      JOIN allocation USING (reservation_id);
"""

# History is insert-only for the service too: the grants say what the triggers enforce.
GRANTS = f"""
GRANT SELECT, INSERT, UPDATE ON category, product, warehouse, stock_level, allocation TO stockflow_inventory;
GRANT SELECT, INSERT ON reservation, stock_transaction, ledger_entry, stock_repair, stock_repair_item, idempotency_key
    TO stockflow_inventory;
GRANT SELECT ON categories_v1, products_v1, warehouses_v1, stock_levels_v1, transactions_v1, ledger_entries_v1,
    reservations_v1 TO stockflow_inventory, {VIEW_READERS};
"""


def upgrade() -> None:
    """Create the tables, triggers, views and grants."""
    for statements in (CATALOGUE, STOCK, REQUESTS, VIEWS, GRANTS):
        execute(statements)
