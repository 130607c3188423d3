"""Importing files."""

import io
from uuid import uuid4

import pyarrow
import pyarrow.parquet as parquet
import pytest

from libs.chassis.database import Connection
from tests.inventory.client import Inventory, Json


async def import_file(inventory: Inventory, kind: str, content: str | bytes, **facts: str) -> Json:
    parameters = {"kind": kind, "importId": str(uuid4()), **facts}
    media_type = "text/csv" if isinstance(content, str) else "application/vnd.apache.parquet"
    answer = await inventory.http.post(
        "/imports", params=parameters, content=content, headers={"Content-Type": media_type}
    )
    assert answer.status_code == 200, answer.text
    body: Json = answer.json()
    return body


async def test_products_are_imported_or_all_faults_are_listed(inventory: Inventory) -> None:
    prefix = inventory.sku
    faulty = (
        f"sku,name,unitCost,categoryId\n{prefix}-a,Chair,2.5,\n{prefix}-b,,1,\n{prefix}-c,Desk,x,\n{prefix}-d,Z,,no\n"
    )
    sound = f"sku,name,unitCost\n{prefix}-a,Chair,2.5\n{prefix}-b,Table,1\n"

    refused = await import_file(inventory, "products", faulty)
    rehearsed = await import_file(inventory, "products", sound, dryRun="true")
    assert (await inventory.http.get(f"/products/{prefix}-a")).status_code == 404
    applied = await import_file(inventory, "products", sound)
    again = await import_file(inventory, "products", sound)

    assert [(error["row"], error["column"]) for error in refused["errors"]] == [(2, "name"), (3, "unitCost"), (4, None)]
    assert (rehearsed["applied"], rehearsed["errors"]) == (False, [])
    assert (applied["applied"], applied["rows"], applied["unchanged"]) == (True, 2, 0)
    assert (again["applied"], again["unchanged"]) == (True, 2)
    assert (await inventory.http.get(f"/products/{prefix}-a")).json()["unitCost"] == "2.5"


async def test_opening_balances_are_imported_once(inventory: Inventory) -> None:
    rows = f"sku,warehouseId,quantity\n{inventory.sku},BERLIN-1,5\n{inventory.sku},PARIS-1,7\n"
    import_id = str(uuid4())

    first = await import_file(inventory, "opening-balances", rows, importId=import_id)
    again = await import_file(inventory, "opening-balances", rows, importId=import_id)

    assert (first["applied"], first["unchanged"], again["unchanged"]) == (True, 0, 2)
    assert (await inventory.level())["quantityOnHand"] == 5
    assert (await inventory.level(warehouse_id="PARIS-1"))["quantityOnHand"] == 7


async def test_transactions_are_imported_from_parquet(inventory: Inventory) -> None:
    receipt, sale = str(uuid4()), str(uuid4())
    table = pyarrow.table(
        {
            "transactionId": [receipt, receipt, sale],
            "transactionType": ["RECEIPT", "RECEIPT", "SALE"],
            "sku": [inventory.sku] * 3,
            "warehouseId": ["BERLIN-1", "PARIS-1", "BERLIN-1"],
            "quantityChange": [5, 6, -9],
        }
    )
    file = io.BytesIO()
    parquet.write_table(table, file)

    refused = await import_file(inventory, "transactions", file.getvalue())
    assert (await inventory.level())["revision"] == 0
    table = table.set_column(4, "quantityChange", pyarrow.array([5, 6, -2]))
    file = io.BytesIO()
    parquet.write_table(table, file)
    applied = await import_file(inventory, "transactions", file.getvalue())

    assert [(error["row"], error["code"]) for error in refused["errors"]] == [(3, "insufficient-stock")]
    assert applied["applied"]
    assert (await inventory.level())["quantityOnHand"] == 3


@pytest.mark.parametrize(
    "content",
    ["sku,colour\na,red\n", "name\nx\n", "sku,name,name\na,b,c\n", 'sku,name\n"a,b\n', b"not parquet", ""],
)
async def test_a_file_that_is_wrong_as_a_whole_is_refused(inventory: Inventory, content: str | bytes) -> None:
    media_type = "text/csv" if isinstance(content, str) else "application/vnd.apache.parquet"

    answer = await inventory.http.post(
        "/imports",
        params={"kind": "products", "importId": str(uuid4())},
        content=content,
        headers={"Content-Type": media_type},
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable-file"), answer.text


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_exactly_the_bad_rows_of_a_long_file_are_listed(inventory: Inventory, connection: Connection) -> None:
    count, bad = 100_000, set(range(150, 100_000, 200))
    await connection.execute(
        "INSERT INTO product (sku, name, attributes, request_hash)"
        " SELECT 'BULK-' || n, 'x', '{}', '' FROM generate_series(1, $1) AS n",
        count,
    )
    lines = [
        f"{'NOBODY' if n in bad and n % 400 == 150 else 'BULK'}-{n},BERLIN-1,{-1 if n in bad else n}"
        for n in range(1, count + 1)
    ]

    answer = await import_file(inventory, "opening-balances", "sku,warehouseId,quantity\n" + "\n".join(lines))

    assert {error["row"] for error in answer["errors"]} == bad
    assert (len(answer["errors"]), answer["rows"], answer["applied"]) == (len(bad), count, False)
