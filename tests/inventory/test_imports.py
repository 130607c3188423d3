"""Importing files."""

import io
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow
import pyarrow.parquet as parquet
import pytest
from fastapi import FastAPI

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


async def test_transactions_are_imported_with_their_costs_and_prices(inventory: Inventory) -> None:
    rows = (
        "transactionId,transactionType,sku,warehouseId,quantityChange,unitCost,unitPrice\n"
        f"{uuid4()},RECEIPT,{inventory.sku},BERLIN-1,5,1.25,\n{uuid4()},SALE,{inventory.sku},BERLIN-1,-1,,-2.50\n"
    )

    applied = await import_file(inventory, "transactions", rows)

    assert applied["applied"], applied
    entries = await inventory.entries(sku=inventory.sku)
    assert [(entry["unitCost"], entry["unitPrice"]) for entry in entries] == [("1.25", None), (None, "-2.5")]


async def test_rows_of_a_transaction_that_stand_apart_are_refused(inventory: Inventory) -> None:
    sale = f"{uuid4()},SALE,{inventory.sku},BERLIN-1,-1\n"
    receipt = f"{uuid4()},RECEIPT,{inventory.sku},BERLIN-1,5\n"
    further_on = "".join(f"{uuid4()},RECEIPT,{inventory.sku},BERLIN-1,1\n" for _ in range(1_000))

    result = await import_file(
        inventory,
        "transactions",
        f"transactionId,transactionType,sku,warehouseId,quantityChange\n{receipt}{sale}{receipt}{further_on}{sale}",
    )

    assert [(error["row"], error["column"]) for error in result["errors"]] == [
        (3, "transactionId"),
        (1_004, "transactionId"),
    ]


async def test_more_errors_than_anybody_reads_are_counted(inventory: Inventory) -> None:
    result = await import_file(inventory, "products", "sku,name\n" + ",\n" * 6_000)

    assert (result["errorCount"], len(result["errors"])) == (12_000, 10_000)
    assert result["errors"][-1]["row"] == 5_000


@pytest.mark.parametrize(
    ("column", "cell"),
    [("quantityChange", "1_000"), ("occurredAt", "1700000000"), ("occurredAt", "20200101"), ("notes", "a\0b")],
)
async def test_a_cell_of_another_type_is_a_fault_of_its_row(inventory: Inventory, column: str, cell: str) -> None:
    row = {
        "transactionId": str(uuid4()),
        "transactionType": "RECEIPT",
        "sku": inventory.sku,
        "warehouseId": "BERLIN-1",
        "quantityChange": "1",
        column: cell,
    }

    refused = await import_file(inventory, "transactions", f"{','.join(row)}\n{','.join(row.values())}\n")

    assert [(error["row"], error["column"]) for error in refused["errors"]] == [(1, column)]


async def test_a_truth_value_is_no_quantity(inventory: Inventory) -> None:
    table = pyarrow.table({"sku": [inventory.sku], "warehouseId": ["BERLIN-1"], "quantity": [True]})
    parquet.write_table(table, file := io.BytesIO())

    refused = await import_file(inventory, "opening-balances", file.getvalue())

    assert [(error["row"], error["column"]) for error in refused["errors"]] == [(1, "quantity")]


async def test_a_transaction_of_too_many_rows_is_refused_with_every_faulty_row(inventory: Inventory) -> None:
    transaction_id = uuid4()
    lines = [f"{transaction_id},RECEIPT,{inventory.sku},BERLIN-1,{0 if n == 1_500 else 1}" for n in range(1, 2_001)]
    lines[1_599] += "x"

    refused = await import_file(
        inventory, "transactions", "transactionId,transactionType,sku,warehouseId,quantityChange\n" + "\n".join(lines)
    )

    assert [(error["row"], error["column"]) for error in refused["errors"]] == [
        (1, "transactionId"),
        (1_600, "quantityChange"),
    ]


def of_bytes_that_are_no_text() -> "pyarrow.Array[Any]":
    return pyarrow.array([b"\xff\xfe"]).view(pyarrow.string())


def of_an_instant_beyond_all_years() -> "pyarrow.Array[Any]":
    return pyarrow.array([2**52], pyarrow.timestamp("ms", "UTC"))


@pytest.mark.parametrize("column", [of_bytes_that_are_no_text, of_an_instant_beyond_all_years])
async def test_parquet_values_that_cannot_be_read_are_refused(
    inventory: Inventory, column: "Callable[[], pyarrow.Array[Any]]"
) -> None:
    table = pyarrow.table({"sku": ["A"], "name": column()})
    parquet.write_table(table, file := io.BytesIO())

    answer = await inventory.http.post(
        "/imports",
        params={"kind": "products", "importId": str(uuid4())},
        content=file.getvalue(),
        headers={"Content-Type": "application/vnd.apache.parquet"},
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable-file"), answer.text


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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
async def test_a_full_disk_is_told(
    inventory: Inventory, app: FastAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").symlink_to("/dev/full")
    monkeypatch.setattr("services.inventory.routes.imports.TemporaryDirectory", lambda prefix: nullcontext(tmp_path))
    refused = await inventory.http.post(
        "/imports",
        params={"kind": "products", "importId": str(uuid4())},
        content="sku,name\n",
        headers={"Content-Type": "text/csv"},
    )
    assert (refused.status_code, refused.json()["code"]) == (503, "storage-full")
    assert not app.state.bulk.locked()
