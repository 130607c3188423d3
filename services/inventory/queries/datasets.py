"""Whole datasets, read piece by piece from published views."""

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from typing import Final

import asyncpg
from pydantic.alias_generators import to_camel

from libs.chassis.database import Connection


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of a view in order: column name and kind (text, bigint, money or instant) of each column."""

    view: str
    order: str
    fields: tuple[tuple[str, str], ...]

    @property
    def columns(self) -> list[str]:
        return [to_camel(name) for name, _ in self.fields]

    @property
    def types(self) -> list[str]:
        return [kind for _, kind in self.fields]


DATASETS: Final = {
    "products": Dataset(
        "products_v1",
        "sku",
        (
            ("sku", "text"),
            ("name", "text"),
            ("description", "text"),
            ("category_id", "text"),
            ("unit_of_measure", "text"),
            ("unit_cost", "money"),
            ("unit_price", "money"),
            ("status", "text"),
            ("version", "bigint"),
            ("updated_at", "instant"),
        ),
    ),
    "stock-levels": Dataset(
        "stock_levels_v1",
        "sku, warehouse_id",
        (
            ("sku", "text"),
            ("warehouse_id", "text"),
            ("quantity_on_hand", "bigint"),
            ("quantity_reserved", "bigint"),
            ("quantity_available", "bigint"),
            ("reorder_point", "bigint"),
            ("reorder_quantity", "bigint"),
            ("sequence", "bigint"),
            ("revision", "bigint"),
            ("updated_at", "instant"),
        ),
    ),
    "ledger-entries": Dataset(
        "ledger_entries_v1",
        "sku, warehouse_id, sequence",
        (
            ("sku", "text"),
            ("warehouse_id", "text"),
            ("sequence", "bigint"),
            ("transaction_id", "text"),
            ("transaction_type", "text"),
            ("line_no", "bigint"),
            ("quantity_change", "bigint"),
            ("quantity_before", "bigint"),
            ("quantity_after", "bigint"),
            ("unit_cost", "money"),
            ("unit_price", "money"),
            ("reference_id", "text"),
            ("source", "text"),
            ("occurred_at", "instant"),
            ("recorded_at", "instant"),
        ),
    ),
}


async def read(
    connection: Connection, dataset: Dataset, warehouses: Collection[str] | None, limit: int
) -> AsyncGenerator[list[asyncpg.Record], None]:
    """The rows of a dataset in lists of at most `limit`, from a cursor of the caller's transaction.

    With `warehouses` only rows of these; a dataset that knows no warehouses is given whole.
    """
    columns = ", ".join(f"{name}::text" if kind == "text" else name for name, kind in dataset.fields)
    restricted = warehouses is not None and ("warehouse_id", "text") in dataset.fields
    where = "WHERE warehouse_id = ANY($1::text[])" if restricted else ""
    statement = f"SELECT {columns} FROM {dataset.view} {where} ORDER BY {dataset.order}"
    cursor = await connection.cursor(statement, *([list(warehouses or ())] if restricted else ()))
    while rows := await cursor.fetch(limit):
        yield rows
