"""Files as they come."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from tests.tools.files import NOW, a_file, a_row
from tools.replay import sales, source


def test_parquet_and_csv_of_the_same_rows_are_the_same_sales(tmp_path: Path) -> None:
    csv = a_file(tmp_path, a_row(UnitPrice="2.1", CustomerID=None), a_row(Quantity="-3", InvoiceNo="C7"))
    typed = pl.read_csv(csv, schema_overrides={"InvoiceNo": pl.String, "Quantity": pl.Int32}, try_parse_dates=True)
    typed.write_parquet(tmp_path / "sales.parquet")

    from_csv = sales.screen(source.read(csv), now=NOW)
    from_parquet = sales.screen(source.read(tmp_path / "sales.parquet"), now=NOW)

    assert from_csv.sales.height == 2
    assert from_csv.sales.equals(from_parquet.sales)


def test_rows_without_numbers_are_numbered_in_file_order(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("InvoiceNo,StockCode,Quantity,InvoiceDate,Country\n1,A,1,2011-10-03 08:30,France\n1,B,1,,France\n")

    rows = source.read(path)

    assert rows["row_no"].to_list() == ["1", "2"]
    assert rows["Description"].to_list() == [None, None]


def test_a_missing_number_is_missing_whatever_the_writer_puts_for_it(tmp_path: Path) -> None:
    row = {
        "InvoiceNo": "1",
        "StockCode": "A",
        "Quantity": float("nan"),
        "InvoiceDate": datetime(2011, 10, 3, tzinfo=UTC),
        "Country": "France",
    }
    pl.DataFrame([row]).write_parquet(tmp_path / "sales.parquet")

    assert source.read(tmp_path / "sales.parquet")["Quantity"].to_list() == [None]


def test_a_file_without_a_needed_column_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("InvoiceNo,StockCode\n1,A\n")

    with pytest.raises(source.UnreadableFile, match="has no column Quantity, InvoiceDate, Country"):
        source.read(path)


@pytest.mark.parametrize("name", ["sales.csv", "sales.parquet"])
def test_a_file_that_is_empty_or_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(source.UnreadableFile):
        source.read(tmp_path / name)
    (tmp_path / name).touch()
    with pytest.raises(source.UnreadableFile):
        source.read(tmp_path / name)
