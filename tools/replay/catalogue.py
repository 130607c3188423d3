"""The products and warehouses that a file of sales names, and when to reorder the products."""

import math
from dataclasses import dataclass

import polars as pl

LEAD_TIME_DAYS = 7
REVIEW_DAYS = 14
LONGEST_NAME = 200
MOST_UNITS_OF_A_POLICY = 10**15


@dataclass(frozen=True, slots=True)
class Product:
    """A product to create."""

    sku: str
    name: str


@dataclass(frozen=True, slots=True)
class MinMaxPolicy:
    """Order up to `order_up_to` units when the inventory position falls to `reorder_point`."""

    sku: str
    warehouse_id: str
    reorder_point: int
    order_up_to: int


def products(sales: pl.DataFrame) -> list[Product]:
    """Every sku once, named by its most frequent description, or by the sku where there is none."""
    described = sales.with_columns(name=_readable(pl.col("description")))
    names = (
        described.filter(pl.col("name") != "")
        .group_by("sku", "name")
        .len()
        .sort("sku", "len", "name", descending=[False, True, False])
        .unique("sku", keep="first", maintain_order=True)
    )
    skus = sales.select(pl.col("sku").unique().sort())
    named = skus.join(names, on="sku", how="left", maintain_order="left").with_columns(
        pl.col("name").fill_null(pl.col("sku"))
    )
    return [Product(sku, name) for sku, name in named.select("sku", "name").iter_rows()]


def _readable(description: pl.Expr) -> pl.Expr:
    """A description as one line of text; empty when nothing of it can be read."""
    printable = description.fill_null("").str.replace_all(r"[\p{C}\s]+", " ")
    return printable.str.strip_chars().str.slice(0, LONGEST_NAME).str.strip_chars()


def warehouses(sales: pl.DataFrame) -> list[str]:
    """Every warehouse once, in byte order."""
    return sales["warehouse_id"].unique().sort().to_list()


def min_max_policies(sales: pl.DataFrame, *, busiest: int) -> list[MinMaxPolicy]:
    """Policies of the stock items with the most net units sold, busiest first, ties in byte order.

    With d = net units / days between the first and the last day of the file, the reorder point covers LEAD_TIME_DAYS
    of d and an order brings REVIEW_DAYS of d on top. Items that sold nothing on balance get no policy, nor do those
    that sold more than a policy can name.
    """
    if sales.is_empty():
        return []
    first, last = sales.select(
        pl.col("occurred_at").dt.date().min(), pl.col("occurred_at").dt.date().max().alias("last")
    ).row(0)
    days = (last - first).days + 1
    sold = (
        sales.group_by("warehouse_id", "sku")
        .agg(pl.col("quantity").cast(pl.Int128).sum())
        .filter(pl.col("quantity") > 0)
        .sort("quantity", "warehouse_id", "sku", descending=[True, False, False])
        .head(busiest)
    )
    policies = [min_max_policy(sku, warehouse, units / days) for warehouse, sku, units in sold.iter_rows()]
    return [policy for policy in policies if policy.order_up_to <= MOST_UNITS_OF_A_POLICY]


def min_max_policy(sku: str, warehouse_id: str, demand_per_day: float) -> MinMaxPolicy:
    """The policy for this mean demand in units per day."""
    reorder_point = math.ceil(demand_per_day * LEAD_TIME_DAYS)
    return MinMaxPolicy(sku, warehouse_id, reorder_point, reorder_point + math.ceil(demand_per_day * REVIEW_DAYS))
