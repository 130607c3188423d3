"""Sales as documents."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from libs.events.inventory import TransactionType
from tests.tools.files import a_row, screened
from tools.replay.documents import Document, Line, batches, opening_balances, sales_documents, transaction_id


def documents_of(directory: Path, *rows: dict[str, str | None]) -> list[Document]:
    return list(sales_documents(screened(directory, *rows).sales))


def test_a_document_holds_the_lines_of_one_invoice_timestamp_and_sign(tmp_path: Path) -> None:
    later = "2011-10-03 08:31:00"
    rows = [
        a_row(InvoiceNo="2", StockCode="A"),
        a_row(InvoiceNo="1", StockCode="B"),
        a_row(InvoiceNo="1", StockCode="C", Quantity="-2"),
        a_row(InvoiceNo="1", StockCode="D", InvoiceDate=later),
        a_row(InvoiceNo="1", StockCode="E"),
    ]

    documents = documents_of(tmp_path, *rows)

    assert [(d.reference_id, d.transaction_type, [line.sku for line in d.lines]) for d in documents] == [
        ("1", TransactionType.SALE, ["B", "E"]),
        ("1", TransactionType.RETURN, ["C"]),
        ("2", TransactionType.SALE, ["A"]),
        ("1", TransactionType.SALE, ["D"]),
    ]


def test_units_sold_leave_the_stock_and_negative_quantities_come_back(tmp_path: Path) -> None:
    sale, come_back = documents_of(tmp_path, a_row(Quantity="6"), a_row(Quantity="-2"))

    assert (sale.transaction_type, sale.lines[0].quantity_change) == (TransactionType.SALE, -6)
    assert (come_back.transaction_type, come_back.lines[0].quantity_change) == (TransactionType.RETURN, 2)


def test_a_document_has_at_most_a_thousand_lines(tmp_path: Path) -> None:
    documents = documents_of(tmp_path, *(a_row(StockCode=f"S{number}") for number in range(1114)))

    assert [len(document.lines) for document in documents] == [1000, 114]
    assert len({document.transaction_id for document in documents}) == 2


def test_the_same_rows_in_another_file_get_the_same_transaction_ids(tmp_path: Path) -> None:
    rows = [a_row(row_no="10"), a_row(row_no="11", Quantity="-1"), a_row(row_no="12", InvoiceNo="2")]

    whole = documents_of(tmp_path, *rows)
    excerpt = documents_of(tmp_path, rows[2])

    assert excerpt == [replace(whole[0], lines=excerpt[0].lines)]


def test_the_body_of_a_document_is_that_of_the_api(tmp_path: Path) -> None:
    (document,) = documents_of(tmp_path, a_row())

    assert document.body() == {
        "transactionId": str(transaction_id("sales", "569239", "2011-10-03T08:30:00+00:00", "SALE", 1)),
        "transactionType": "SALE",
        "occurredAt": "2011-10-03T08:30:00+00:00",
        "source": "replay",
        "referenceId": "569239",
        "lines": [
            {"sku": "85123A", "warehouseId": "United Kingdom", "quantityChange": -6, "unitPrice": "2.55"},
        ],
    }


def test_the_opening_balance_is_the_gross_units_sold_a_day_before_the_first_sale(tmp_path: Path) -> None:
    rows = [a_row(), a_row(Quantity="4"), a_row(Quantity="-5"), a_row(Country="France", Quantity="-1")]

    (opening,) = opening_balances(screened(tmp_path, *rows).sales)

    assert opening.occurred_at == datetime(2011, 10, 2, tzinfo=UTC)
    assert [(line.warehouse_id, line.quantity_change) for line in opening.lines] == [("United Kingdom", 10)]


def test_opening_balances_of_other_units_are_other_documents(tmp_path: Path) -> None:
    (first,) = opening_balances(screened(tmp_path, a_row()).sales)
    (again,) = opening_balances(screened(tmp_path, a_row()).sales)
    (other,) = opening_balances(screened(tmp_path, a_row(Quantity="7")).sales)

    assert first == again
    assert first.transaction_id != other.transaction_id


def test_a_file_without_sales_opens_nothing(tmp_path: Path) -> None:
    assert opening_balances(screened(tmp_path, a_row(Quantity="-1")).sales) == []


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 20), st.integers(1, 5))
def test_batches_hold_every_document_in_order_within_the_limits(
    sizes: list[int], max_lines: int, max_documents: int
) -> None:
    documents = [a_document(number, size) for number, size in enumerate(sizes)]

    packed = list(batches(documents, max_lines=max_lines, max_documents=max_documents))

    assert [document for batch in packed for document in batch] == documents
    for batch in packed:
        assert len(batch) <= max_documents
        assert len(batch) == 1 or sum(len(document.lines) for document in batch) <= max_lines


def a_document(number: int, lines: int) -> Document:
    at = datetime(2011, 10, 3, tzinfo=UTC)
    return Document(transaction_id(number), TransactionType.SALE, at, tuple([Line("A", "BERLIN-1", -1)] * lines))
