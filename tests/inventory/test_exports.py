"""Exporting datasets."""

import asyncio
import csv
import io

import pyarrow.parquet as parquet
import pytest
from fastapi import FastAPI

from services.inventory.routes.bulk import MOST_AT_ONCE
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


async def test_a_busy_database_is_told_before_the_file_begins(
    inventory: Inventory, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.chassis.database.ACQUIRE_TIMEOUT_SECONDS", 0.05)
    pool = app.state.pool
    busy = [await pool.acquire() for _ in range(pool.get_max_size())]

    refused = await inventory.http.get("/exports/products")
    for connection in busy:
        await pool.release(connection)

    assert (refused.status_code, refused.json()["code"]) == (503, "database-busy")
    assert not app.state.bulk.locked()
    assert (await inventory.http.get("/exports/products")).status_code == 200


async def test_slow_readers_of_files_leave_connections_for_everybody_else(
    inventory: Inventory, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.inventory.routes.bulk.WAIT_SECONDS", 0.05)
    for _ in range(MOST_AT_ONCE):
        await app.state.bulk.acquire()

    refused = await inventory.http.get("/exports/products")
    for _ in range(MOST_AT_ONCE):
        app.state.bulk.release()
    answers = [await inventory.http.get("/exports/products") for _ in range(MOST_AT_ONCE + 1)]

    assert (refused.status_code, refused.json()["code"]) == (503, "bulk-busy")
    assert "Retry-After" in refused.headers
    assert [answer.status_code for answer in answers] == [200] * len(answers)


async def test_clients_that_come_one_after_another_are_all_served(inventory: Inventory) -> None:
    async def client() -> set[int]:
        return {(await inventory.http.get("/exports/products")).status_code for _ in range(10)}

    assert await asyncio.gather(*(client() for _ in range(MOST_AT_ONCE))) == [{200}] * MOST_AT_ONCE
