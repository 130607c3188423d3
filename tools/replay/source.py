"""Reading the file to replay."""

from pathlib import Path

import polars as pl

COLUMNS = (
    "row_no",
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
OPTIONAL = frozenset({"row_no", "Description", "UnitPrice", "CustomerID"})


class UnreadableFile(Exception):
    """The file has not the shape of the Online Retail data set, or is no CSV or Parquet at all."""


def read(path: Path) -> pl.DataFrame:
    """The rows in file order, every known column as text, numbered by `position` from 0.

    Text is what the rules of `sales` judge: a quantity that is no number must arrive there, not end the reading.
    Columns that the file lacks and a replay can do without are null; `row_no` is then the position + 1.
    """
    frame = _parquet(path) if path.suffix.lower() in {".parquet", ".pq"} else _csv(path)
    missing = [name for name in COLUMNS if name not in OPTIONAL and name not in frame.columns]
    if missing:
        raise UnreadableFile(f"{path} has no column {', '.join(missing)}")
    rows = frame.with_row_index("position")
    if "row_no" not in frame.columns:
        rows = rows.with_columns(row_no=pl.col("position") + 1)
    return rows.select("position", *(_as_text(name, rows.schema.get(name)) for name in COLUMNS))


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnreadableFile(f"{path}: {error}") from error


def _csv(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, infer_schema=False, encoding="utf8-lossy")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnreadableFile(f"{path}: {error}") from error


def _as_text(name: str, dtype: pl.DataType | None) -> pl.Expr:
    """A column as text; instants in UTC, and NaN, which some writers use for a missing number, as null."""
    if dtype is None:
        return pl.lit(None, pl.String).alias(name)
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        instants = column.dt.convert_time_zone("UTC") if dtype.time_zone else column
        return instants.dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
    if dtype == pl.Date:
        return column.dt.strftime("%Y-%m-%d 00:00:00")
    if dtype.is_float():
        return column.fill_nan(None).cast(pl.String)
    return column.cast(pl.String)
