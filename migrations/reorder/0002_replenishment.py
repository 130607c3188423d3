"""Reorder policies, inventory positions, recommendations, and the views that other services may read."""

from migrations.script import execute

revision = "0002_replenishment"
down_revision = "0001_event_tables"
branch_labels = None
depends_on = None

# Ids compare by bytes, so that the order in which Python sorts stock items is the order in which Postgres locks them.
TABLES = """
CREATE TABLE reorder_policy (
    sku           text COLLATE "C" NOT NULL,
    warehouse_id  text COLLATE "C" NOT NULL,
    kind          text NOT NULL,
    reorder_point bigint,
    order_up_to   bigint,
    version       bigint NOT NULL DEFAULT 1,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sku, warehouse_id),
    CONSTRAINT policy_kind_known CHECK (kind IN
        ('min_max', 'reorder_point_fixed_quantity', 'reorder_point_eoq', 'periodic_order_up_to', 'days_of_supply',
         'service_level', 'manual')),
    CONSTRAINT reorder_point_not_negative CHECK (reorder_point >= 0),
    CONSTRAINT order_up_to_above_reorder_point CHECK (order_up_to > reorder_point),
    CONSTRAINT min_max_is_complete CHECK (kind <> 'min_max' OR num_nulls(reorder_point, order_up_to) = 0)
);
CREATE INDEX reorder_policy_warehouse ON reorder_policy (warehouse_id, sku);

CREATE TABLE inventory_position (
    sku                 text COLLATE "C" NOT NULL,
    warehouse_id        text COLLATE "C" NOT NULL,
    last_sequence       bigint NOT NULL DEFAULT 0,
    missing             int8multirange NOT NULL DEFAULT '{}',
    revision            bigint NOT NULL DEFAULT 0,
    quantity_on_hand    bigint NOT NULL DEFAULT 0,
    quantity_reserved   bigint NOT NULL DEFAULT 0,
    quantity_on_order   bigint NOT NULL DEFAULT 0,
    inventory_position  bigint GENERATED ALWAYS AS (quantity_on_hand + quantity_on_order - quantity_reserved) STORED,
    thresholds_revision bigint NOT NULL DEFAULT 0,
    reorder_point       bigint,
    reorder_quantity    bigint,
    demand_revision     bigint NOT NULL DEFAULT 0,
    demand              jsonb,
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sku, warehouse_id),
    CONSTRAINT on_hand_not_negative CHECK (quantity_on_hand >= 0),
    CONSTRAINT reserved_not_negative CHECK (quantity_reserved >= 0),
    CONSTRAINT on_order_not_negative CHECK (quantity_on_order >= 0)
) WITH (fillfactor = 70);
CREATE INDEX inventory_position_warehouse ON inventory_position (warehouse_id, sku);
COMMENT ON TABLE inventory_position IS
    'What events tell of each stock item. The row is the lock of the item''s policy and recommendation, too.';
COMMENT ON COLUMN inventory_position.missing IS 'Sequences below last_sequence that have not come yet.';
COMMENT ON COLUMN inventory_position.demand IS 'Latest known units per day, by window length in days.';

CREATE TABLE recommendation (
    recommendation_id    uuid PRIMARY KEY,
    sku                  text COLLATE "C" NOT NULL,
    warehouse_id         text COLLATE "C" NOT NULL,
    status               text NOT NULL,
    recommended_quantity bigint NOT NULL,
    inventory_position   bigint NOT NULL,
    reorder_point        bigint NOT NULL,
    supplier_id          text,
    explanation          jsonb NOT NULL,
    revision             bigint NOT NULL,
    snoozed_until        timestamptz,
    created_at           timestamptz NOT NULL,
    updated_at           timestamptz NOT NULL,
    closed_at            timestamptz,
    FOREIGN KEY (sku, warehouse_id) REFERENCES inventory_position,
    CONSTRAINT recommendation_status_known CHECK (status IN ('open', 'snoozed', 'dismissed', 'withdrawn')),
    CONSTRAINT recommended_quantity_positive CHECK (recommended_quantity > 0),
    CONSTRAINT snoozed_has_an_end CHECK ((status = 'snoozed') = (snoozed_until IS NOT NULL)),
    CONSTRAINT closed_is_final CHECK (closed_at IS NULL OR status IN ('dismissed', 'withdrawn'))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX one_live_recommendation ON recommendation (sku, warehouse_id) WHERE closed_at IS NULL;
CREATE INDEX recommendation_latest ON recommendation (created_at, recommendation_id);
CREATE INDEX recommendation_status ON recommendation (status, created_at, recommendation_id);
COMMENT ON COLUMN recommendation.closed_at IS
    'When the position rose above the reorder point again. A dismissed recommendation stays live until then.';
"""

VIEWS = """
CREATE VIEW policies_v1 AS
    SELECT sku, warehouse_id, kind, reorder_point, order_up_to, version, updated_at FROM reorder_policy;
CREATE VIEW recommendations_v1 AS
    SELECT recommendation_id, sku, warehouse_id, status, recommended_quantity, inventory_position, reorder_point,
           supplier_id, explanation, revision, snoozed_until, created_at, updated_at, closed_at
      FROM recommendation;
"""

GRANTS = """
GRANT SELECT, INSERT, UPDATE ON reorder_policy, inventory_position, recommendation TO stockflow_reorder;
GRANT SELECT ON policies_v1, recommendations_v1 TO stockflow_pipeline, stockflow_analytics, stockflow_batch;
"""


def upgrade() -> None:
    """Create the tables, views and grants."""
    for script in (TABLES, VIEWS, GRANTS):
        execute(script)
