"""Rows of a file that can be posted, and rows that cannot."""

from pathlib import Path

import pytest

from tests.tools.files import a_row, reasons, screened


def test_a_good_row_becomes_a_sale_with_its_values_unchanged(tmp_path: Path) -> None:
    result = screened(tmp_path, a_row(StockCode="Ünï/85:A", Country="Côte d'Ivoire", UnitPrice="0.001"))

    sale = result.sales.row(0, named=True)
    assert result.rejected.is_empty()
    assert (sale["sku"], sale["warehouse_id"], sale["unit_price"]) == ("Ünï/85:A", "Côte d'Ivoire", "0.001")
    assert (sale["quantity"], sale["occurred_at"].isoformat()) == (6, "2011-10-03T08:30:00+00:00")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"row_no": ""}, "row_no is not a whole number"),
        ({"InvoiceNo": None}, "InvoiceNo is missing"),
        ({"InvoiceNo": "x" * 257}, "InvoiceNo is longer than 256 characters"),
        ({"InvoiceNo": "a\x00b"}, "InvoiceNo holds control characters"),
        ({"StockCode": None}, "StockCode is missing"),
        ({"StockCode": "   "}, "StockCode is missing"),
        ({"StockCode": " 85123A"}, "StockCode is not 1-64 printable characters without blanks around them"),
        ({"StockCode": "85123A\u00a0"}, "StockCode is not 1-64 printable characters without blanks around them"),
        ({"StockCode": "8" * 65}, "StockCode is not 1-64 printable characters without blanks around them"),
        ({"StockCode": "851\ufffd3A"}, "StockCode is not 1-64 printable characters without blanks around them"),
        ({"Country": None}, "Country is missing"),
        ({"Country": "France\n"}, "Country is not 1-64 printable characters without blanks around them"),
        ({"Quantity": None}, "Quantity is not a whole 64-bit number"),
        ({"Quantity": "six"}, "Quantity is not a whole 64-bit number"),
        ({"Quantity": "1.5"}, "Quantity is not a whole 64-bit number"),
        ({"Quantity": "9223372036854775808"}, "Quantity is not a whole 64-bit number"),
        ({"Quantity": "0"}, "Quantity is zero: nothing moved"),
        ({"InvoiceDate": None}, "InvoiceDate is not an ISO 8601 date and time in UTC"),
        ({"InvoiceDate": "2011-02-30 10:00:00"}, "InvoiceDate is not an ISO 8601 date and time in UTC"),
        ({"InvoiceDate": "03/10/2011 08:30"}, "InvoiceDate is not an ISO 8601 date and time in UTC"),
        ({"InvoiceDate": "1900-01-01 00:00:00"}, "InvoiceDate is before 1970"),
        ({"InvoiceDate": "2026-01-01 00:05:01"}, "InvoiceDate is in the future"),
        ({"UnitPrice": "free"}, "UnitPrice is not an amount with at most 6 decimal places"),
        ({"UnitPrice": "1.2345678"}, "UnitPrice is not an amount with at most 6 decimal places"),
    ],
)
def test_a_row_that_cannot_be_posted_is_rejected_with_the_reason(
    tmp_path: Path, facts: dict[str, str | None], reason: str
) -> None:
    assert reasons(tmp_path, a_row(Quantity="1"), a_row(**facts)) == [(1, reason)]


@pytest.mark.parametrize(
    "facts",
    [
        {"Description": None},
        {"CustomerID": None},
        {"UnitPrice": None},
        {"UnitPrice": "-11062.06"},
        {"Quantity": "-9360"},
        {"Quantity": "80995.0"},
        {"Quantity": "1000000000000000"},
        {"InvoiceDate": "2011-10-03T08:30:00Z"},
        {"InvoiceDate": "2011-10-03 08:30"},
        {"StockCode": "m"},
        {"StockCode": "BANK CHARGES"},
    ],
)
def test_an_unusual_row_is_posted_all_the_same(tmp_path: Path, facts: dict[str, str | None]) -> None:
    assert reasons(tmp_path, a_row(**facts)) == []


def test_skus_that_differ_in_case_only_stay_two_skus(tmp_path: Path) -> None:
    result = screened(tmp_path, a_row(StockCode="85123a"), a_row(StockCode="85123A"))

    assert sorted(result.sales["sku"]) == ["85123A", "85123a"]


def test_equal_rows_with_different_numbers_are_all_posted(tmp_path: Path) -> None:
    assert reasons(tmp_path, a_row(), a_row(), a_row()) == []


def test_a_repeated_row_number_is_rejected_after_the_first_good_row(tmp_path: Path) -> None:
    rejected = reasons(tmp_path, a_row(row_no="7", Quantity="0"), a_row(row_no="7"), a_row(row_no="7"))

    assert rejected == [(0, "Quantity is zero: nothing moved"), (2, "row_no repeats that of an earlier row")]


def test_rows_are_rejected_when_their_stock_item_has_more_units_than_can_be_booked(tmp_path: Path) -> None:
    rejected = reasons(
        tmp_path,
        a_row(Quantity="999999999999995"),
        a_row(Quantity="-6"),
        a_row(Quantity="6", Country="France"),
        a_row(Quantity="9223372036854775807", Country="EIRE"),
    )

    reason = "Quantity takes the stock item over 1,000,000,000,000,000 units"
    assert rejected == [(1, reason), (3, reason)]
