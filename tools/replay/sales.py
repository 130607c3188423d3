"""Which rows of a file of sales are stock movements, and why the others are not."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from pydantic import TypeAdapter, ValidationError

from libs.events.envelope import Sku, WarehouseId

CLOCK_TOLERANCE = timedelta(minutes=5)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST_UNITS = 10**15
"""What a line of the API takes, and so what a stock item can be opened with."""
LONGEST_REFERENCE = 256

_WHOLE_NUMBER = r"^[+-]?\d+(\.0+)?$"
_AMOUNT = r"^[+-]?\d{1,12}(\.\d{1,6})?$"
_CONTROL = r"[\x00-\x1f\x7f-\x9f]"
_TIME_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")


@dataclass(frozen=True, slots=True)
class Screened:
    """A file, sorted into what can be posted and what cannot."""

    sales: pl.DataFrame
    """position, row_no, reference_id, sku, warehouse_id, quantity, occurred_at, unit_price, description.

    A positive quantity was sold, a negative one came back.
    """
    rejected: pl.DataFrame
    """position, reason; in file order."""


def screen(rows: pl.DataFrame, *, now: datetime) -> Screened:
    """Judge every row of `source.read`; the first broken rule is the reason.

    Nothing is mended: a sku with a blank around it could be another sku, a price with ten places another price.
    """
    judged = _typed(rows).with_columns(reason=pl.coalesce(_broken_rules(rows, now)))
    judged = _with_room_for_every_unit(_with_row_numbers_once(judged))
    kept = judged.filter(pl.col("reason").is_null()).drop("reason")
    return Screened(kept, judged.filter(pl.col("reason").is_not_null()).select("position", "reason"))


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    """The columns under the names of the API, null where a text is no such value."""
    quantity = pl.col("Quantity").str.strip_chars()
    instant = pl.col("InvoiceDate").str.strip_chars().str.replace("T", " ", literal=True).str.strip_suffix("Z")
    instants = [instant.str.to_datetime(form, time_unit="us", strict=False) for form in _TIME_FORMATS]
    return rows.select(
        "position",
        pl.col("row_no").str.strip_chars().cast(pl.Int64, strict=False),
        pl.col("InvoiceNo").alias("reference_id"),
        pl.col("StockCode").alias("sku"),
        pl.col("Country").alias("warehouse_id"),
        pl.when(quantity.str.contains(_WHOLE_NUMBER))
        .then(quantity.str.replace(r"\.0+$", "").str.strip_prefix("+").cast(pl.Int64, strict=False))
        .alias("quantity"),
        pl.coalesce(instants).dt.replace_time_zone("UTC").alias("occurred_at"),
        pl.col("UnitPrice").str.strip_chars().str.strip_prefix("+").replace("", None).alias("unit_price"),
        pl.col("Description").alias("description"),
    )


def _broken_rules(rows: pl.DataFrame, now: datetime) -> list[pl.Expr]:
    """One expression per rule, in the order in which they are told: the reason where broken, else null."""
    reference, sku, warehouse = pl.col("reference_id"), pl.col("sku"), pl.col("warehouse_id")
    rules = [
        (pl.col("row_no").is_null(), "row_no is not a whole number"),
        (_missing(reference), "InvoiceNo is missing"),
        (reference.str.len_chars() > LONGEST_REFERENCE, f"InvoiceNo is longer than {LONGEST_REFERENCE} characters"),
        (reference.str.contains(_CONTROL), "InvoiceNo holds control characters"),
        (_missing(sku), "StockCode is missing"),
        (sku.is_in(_not_valid(rows["StockCode"], Sku)), f"StockCode is not {_IDENTIFIER}"),
        (_missing(warehouse), "Country is missing"),
        (warehouse.is_in(_not_valid(rows["Country"], WarehouseId)), f"Country is not {_IDENTIFIER}"),
        (pl.col("quantity").is_null(), "Quantity is not a whole 64-bit number"),
        (pl.col("quantity") == 0, "Quantity is zero: nothing moved"),
        (pl.col("occurred_at").is_null(), "InvoiceDate is not an ISO 8601 date and time in UTC"),
        (pl.col("occurred_at") < EARLIEST, "InvoiceDate is before 1970"),
        (pl.col("occurred_at") > now + CLOCK_TOLERANCE, "InvoiceDate is in the future"),
        (~pl.col("unit_price").str.contains(_AMOUNT), "UnitPrice is not an amount with at most 6 decimal places"),
    ]
    return [pl.when(broken).then(pl.lit(reason)) for broken, reason in rules]


_IDENTIFIER = "1-64 printable characters without blanks around them"


def _missing(column: pl.Expr) -> pl.Expr:
    return column.is_null() | (column.str.strip_chars() == "")


def _not_valid(values: pl.Series, identifier: Any) -> list[str]:
    """The distinct values that the contract's definition of the identifier refuses."""
    adapter = TypeAdapter(identifier)
    refused = []
    for value in values.drop_nulls().unique():
        try:
            adapter.validate_python(value)
        except ValidationError:
            refused.append(value)
    # The replacement character stands for bytes that were not UTF-8: two skus could have become one.
    return refused + [value for value in values.drop_nulls().unique() if "\ufffd" in value]


def _with_row_numbers_once(judged: pl.DataFrame) -> pl.DataFrame:
    """row_no identifies a row: of several good rows with one number, the first counts."""
    repeated = pl.col("row_no").cum_count().over("row_no", pl.col("reason").is_null()) > 1
    return _reject(judged, repeated, "row_no repeats that of an earlier row")


def _with_room_for_every_unit(judged: pl.DataFrame) -> pl.DataFrame:
    """All units of a stock item, in and out: its opening balance is one line."""
    moved = pl.col("quantity").cast(pl.Int128).abs().cum_sum().over("warehouse_id", "sku", pl.col("reason").is_null())
    return _reject(judged, moved > LARGEST_UNITS, f"Quantity takes the stock item over {LARGEST_UNITS:,} units")


def _reject(judged: pl.DataFrame, broken: pl.Expr, reason: str) -> pl.DataFrame:
    newly = pl.col("reason").is_null() & broken
    return judged.with_columns(reason=pl.when(newly).then(pl.lit(reason)).otherwise(pl.col("reason")))
