"""Products, categories and warehouses with their history, so that a movement keeps the category that it had."""

from migrations.script import execute

revision = "0011_dimensions"
down_revision = "0010_partitions"
branch_labels = None
depends_on = None

DIMENSIONS = (
    ("product", "sku", 'name text NOT NULL, category_id text COLLATE "C", unit_of_measure text, unit_cost numeric'),
    ("category", "category_id", 'name text NOT NULL, parent_id text COLLATE "C"'),
    ("warehouse", "warehouse_id", "name text NOT NULL, timezone text NOT NULL"),
)
READERS = "stockflow_pipeline, stockflow_analytics, stockflow_batch"


def upgrade() -> None:
    """Create a table of versions for each dimension, and the views that join facts with the version of their time."""
    for dimension, key, attributes in DIMENSIONS:
        _create_versions(dimension, key, attributes)
    _publish("hourly_movements_v1", "hour", "fact.hour")
    _publish("daily_movements_v1", "date", "fact.date::timestamp AT TIME ZONE 'UTC'")


def _create_versions(dimension: str, key: str, attributes: str) -> None:
    """The primary key finds the version of a time, the other index keeps the present version single."""
    execute(f"""
        CREATE TABLE {dimension}_version (
            {key} text COLLATE "C" NOT NULL,
            valid_from timestamptz NOT NULL,
            valid_to timestamptz NOT NULL DEFAULT 'infinity',
            {attributes},
            PRIMARY KEY ({key}, valid_from),
            CHECK (valid_from < valid_to)
        );
        CREATE UNIQUE INDEX {dimension}_version_present_key ON {dimension}_version ({key}) WHERE valid_to = 'infinity';
        COMMENT ON TABLE {dimension}_version IS
            'The {dimension} as it was in [valid_from, valid_to). The first version known holds for all time before.';
        GRANT SELECT, INSERT, UPDATE, DELETE ON {dimension}_version TO stockflow_pipeline;
        CREATE VIEW {dimension}_versions_v1 AS SELECT * FROM {dimension}_version;
        GRANT SELECT ON {dimension}_versions_v1 TO {READERS};
    """)


def _publish(movements: str, bucket: str, begins_at: str) -> None:
    versions = " ".join(
        f"""
        LEFT JOIN {dimension}_version AS {dimension}
          ON {dimension}.{key} = {fact}.{key} AND {dimension}.valid_from <= {begins_at}
         AND {dimension}.valid_to > {begins_at}"""
        for dimension, key, fact in (
            ("product", "sku", "fact"),
            ("category", "category_id", "product"),
            ("warehouse", "warehouse_id", "fact"),
        )
    )
    execute(f"""
        CREATE VIEW enriched_{movements} AS
            SELECT fact.*, product.name AS product_name, product.category_id, category.name AS category_name,
                   warehouse.name AS warehouse_name
              FROM {movements} AS fact {versions};
        COMMENT ON VIEW enriched_{movements} IS
            'With product, category and warehouse as they were when the {bucket} began (UTC), null where unknown.';
        GRANT SELECT ON enriched_{movements} TO {READERS};
    """)
