"""Products and reorder policies out of a file of sales."""

from pathlib import Path

from tests.tools.files import a_row, screened
from tools.replay import catalogue
from tools.replay.catalogue import MinMaxPolicy, Product


def test_a_product_is_named_by_its_most_frequent_description(tmp_path: Path) -> None:
    names = ["MUG ", "damaged", "MUG"]
    rows = [a_row(StockCode="M", Description=name) for name in names]

    assert catalogue.products(screened(tmp_path, *rows).sales) == [Product("M", "MUG")]


def test_a_product_without_a_readable_description_is_named_by_its_sku(tmp_path: Path) -> None:
    rows = [a_row(StockCode="A", Description=None), a_row(StockCode="B", Description=" \x07 ")]

    assert catalogue.products(screened(tmp_path, *rows).sales) == [Product("A", "A"), Product("B", "B")]


def test_every_warehouse_is_named_once(tmp_path: Path) -> None:
    rows = [a_row(Country=country) for country in ("France", "EIRE", "France")]

    assert catalogue.warehouses(screened(tmp_path, *rows).sales) == ["EIRE", "France"]


def test_the_reorder_point_covers_the_lead_time_and_an_order_the_review_period(tmp_path: Path) -> None:
    rows = [a_row(Quantity="12"), a_row(Quantity="-2", InvoiceDate="2011-10-06 10:00:00")]

    policies = catalogue.min_max_policies(screened(tmp_path, *rows).sales, busiest=5)

    # 10 units in 4 days: 17.5 in the 7 days of lead time, 35 in the 14 days of review.
    assert policies == [MinMaxPolicy("85123A", "United Kingdom", 18, 53)]


def test_only_the_busiest_stock_items_get_a_policy(tmp_path: Path) -> None:
    rows = [a_row(StockCode="A", Quantity="1"), a_row(StockCode="B", Quantity="9"), a_row(StockCode="C", Quantity="-9")]
    sales = screened(tmp_path, *rows).sales

    assert [policy.sku for policy in catalogue.min_max_policies(sales, busiest=1)] == ["B"]
    assert [policy.sku for policy in catalogue.min_max_policies(sales, busiest=5)] == ["B", "A"]
