"""The history of products, categories and warehouses, from the views that inventory publishes."""

from dataclasses import dataclass

from libs.chassis.database import Connection


@dataclass(frozen=True, slots=True)
class _Dimension:
    versions: str
    source: str
    key: str
    attributes: tuple[str, ...]
    changed_at: str
    """The time of a change; where the source does not tell, it is when the change is seen."""


_DIMENSIONS = (
    _Dimension(
        "product_version",
        "inventory.products_v1",
        "sku",
        ("name", "category_id", "unit_of_measure", "unit_cost"),
        "source.updated_at",
    ),
    _Dimension("category_version", "inventory.categories_v1", "category_id", ("name", "parent_id"), "now()"),
    _Dimension("warehouse_version", "inventory.warehouses_v1", "warehouse_id", ("name", "timezone"), "now()"),
)


async def refresh(connection: Connection) -> int:
    """Begin a new version of everything that has changed, in the caller's transaction; how many versions.

    Of several changes between two calls the last one counts. One caller at a time, others wait.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtext('pipeline dimensions'))")
    begun = 0
    for dimension in _DIMENSIONS:
        await _end_versions(connection, dimension)
        begun += await _begin_versions(connection, dimension)
    return begun


async def _end_versions(connection: Connection, dimension: _Dimension) -> None:
    present = ", ".join(f"present.{name}" for name in dimension.attributes)
    current = ", ".join(f"source.{name}" for name in dimension.attributes)
    await connection.execute(
        f"""
        UPDATE {dimension.versions} AS present
           SET valid_to = greatest({dimension.changed_at}, valid_from + interval '1 microsecond')
          FROM {dimension.source} AS source
         WHERE source.{dimension.key} = present.{dimension.key} AND valid_to = 'infinity'
           AND ({present}) IS DISTINCT FROM ({current})
        """
    )


async def _begin_versions(connection: Connection, dimension: _Dimension) -> int:
    """Versions of what has no present one: from the end of its last one on, or of all time."""
    key, names = dimension.key, ", ".join(dimension.attributes)
    begun = await connection.fetch(
        f"""
        INSERT INTO {dimension.versions} ({key}, valid_from, {names})
        SELECT {key}, coalesce((SELECT max(valid_to) FROM {dimension.versions} AS ended
                                 WHERE ended.{key} = source.{key}), '-infinity'), {names}
          FROM {dimension.source} AS source
         WHERE NOT EXISTS (SELECT FROM {dimension.versions} AS present
                            WHERE present.{key} = source.{key} AND valid_to = 'infinity')
        RETURNING {key}
        """
    )
    return len(begun)
