"""Rows of the Online Retail shape with only the facts that matter spelled out."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from tools.replay import sales, source
from tools.replay.sales import Screened

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_row(**facts: str | None) -> dict[str, str | None]:
    """A good row, as text."""
    row: dict[str, str | None] = {
        "InvoiceNo": "569239",
        "StockCode": "85123A",
        "Description": "WHITE HANGING HEART",
        "Quantity": "6",
        "InvoiceDate": "2011-10-03 08:30:00",
        "UnitPrice": "2.55",
        "CustomerID": "14644",
        "Country": "United Kingdom",
    }
    return row | facts


def a_file(directory: Path, *rows: dict[str, str | None]) -> Path:
    """A CSV file of these rows, numbered from 1 unless they say otherwise."""
    numbered: list[dict[str, str | None]] = [{"row_no": str(n), **row} for n, row in enumerate(rows, start=1)]
    path = directory / "sales.csv"
    pl.DataFrame(numbered, schema=dict.fromkeys(numbered[0], pl.String)).write_csv(path)
    return path


def screened(directory: Path, *rows: dict[str, str | None]) -> Screened:
    """What the rules make of these rows."""
    return sales.screen(source.read(a_file(directory, *rows)), now=NOW)


def reasons(directory: Path, *rows: dict[str, str | None]) -> list[tuple[int, str]]:
    """Position and reason of the rejected ones of these rows."""
    return screened(directory, *rows).rejected.rows()
