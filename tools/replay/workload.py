"""All that a replay posts, in the order in which it must be posted."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from tools.replay import catalogue, documents
from tools.replay.catalogue import MinMaxPolicy, Product
from tools.replay.documents import Document


@dataclass(frozen=True, slots=True)
class Workload:
    """Master data first, then opening balances, then the documents in order of time."""

    products: list[Product]
    warehouses: list[str]
    policies: list[MinMaxPolicy]
    thresholds: list[MinMaxPolicy]
    """Stock items whose stock level gets the reorder point and quantity of the policy."""
    opening_balances: list[Document]
    documents: Iterable[Document]
    line_count: int
    """Lines of `documents`, for the display of progress."""


def from_sales(sales: pl.DataFrame, *, policies: int, thresholds: int, until: datetime | None = None) -> Workload:
    """The workload of the screened rows of a file; `policies` and `thresholds` count the busiest stock items.

    Opening balances and policies are those of the whole file, so that a replay `until` an instant can be continued.
    """
    due = sales if until is None else sales.filter(pl.col("occurred_at") <= until)
    min_max = catalogue.min_max_policies(sales, busiest=max(policies, thresholds))
    return Workload(
        products=catalogue.products(sales),
        warehouses=catalogue.warehouses(sales),
        policies=min_max[:policies],
        thresholds=min_max[:thresholds],
        opening_balances=documents.opening_balances(sales),
        documents=documents.sales_documents(due),
        line_count=due.height,
    )
