"""Exporting datasets."""

import csv
import io

import pyarrow.parquet as parquet

from tests.inventory.client import Inventory


async def test_csv_text_is_never_taken_for_a_formula(inventory: Inventory) -> None:
    sku = f"={inventory.sku}"
    await inventory.http.post(
        "/products", json={"sku": sku, "name": "@SUM(A1)", "description": "\uff1d1", "unitCost": "2.5"}
    )

    answer = await inventory.http.get("/exports/products")

    rows = {row["sku"]: row for row in csv.DictReader(io.StringIO(answer.text))}
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert rows[f"'{sku}"]["name"] == "'@SUM(A1)"
    assert rows[f"'{sku}"]["description"] == "'\uff1d1"
    assert rows[inventory.sku]["status"] == "active"


async def test_the_ledger_is_exported_as_parquet(inventory: Inventory) -> None:
    await inventory.receive(5)
    await inventory.sell(2)

    answer = await inventory.http.get("/exports/ledger-entries", params={"format": "parquet"})

    rows = [row for row in parquet.read_table(io.BytesIO(answer.content)).to_pylist() if row["sku"] == inventory.sku]
    assert [row["quantityChange"] for row in rows] == [5, -2]
    assert rows[0]["recordedAt"].tzinfo is not None


async def test_an_unknown_dataset_is_refused(inventory: Inventory) -> None:
    answer = await inventory.http.get("/exports/passwords")

    assert answer.status_code == 422
