"""The ledger and what guards it: the database refuses bad stock whatever the code does."""

import json
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest

from libs.chassis.database import Connection, Pool, acquired
from libs.events.inventory import TransactionType
from libs.events.topics import INVENTORY_EVENTS
from services.inventory import ledger
from services.inventory.outcome import ErrorPolicy, Posted
from services.inventory.republish import republish
from services.inventory.schemas.stock import StockLevelOut
from services.inventory.transaction import Document, Line
from tests.inventory.client import Inventory, Json, a_document, a_line

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


async def waiting_events(connection: Connection, sku: str) -> list[Json]:
    """The events of a sku that wait in the outbox, documents included, in order."""
    rows = await connection.fetch("SELECT value, key FROM outbox ORDER BY id")
    values = [json.loads(row["value"]) for row in rows]
    return [
        value for value in values if value["sku"] == sku or any(line["sku"] == sku for line in value.get("lines", []))
    ]


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("UPDATE ledger_entry SET quantity_change = 1", asyncpg.RestrictViolationError),
        ("DELETE FROM ledger_entry", asyncpg.RestrictViolationError),
        ("TRUNCATE ledger_entry", asyncpg.RestrictViolationError),
        ("UPDATE stock_transaction SET notes = ''", asyncpg.RestrictViolationError),
        ("DELETE FROM stock_transaction", asyncpg.RestrictViolationError),
        ("UPDATE stock_level SET quantity_on_hand = -1, quantity_reserved = -1", asyncpg.CheckViolationError),
        ("UPDATE stock_level SET quantity_reserved = quantity_on_hand + 1", asyncpg.CheckViolationError),
        ("UPDATE stock_level SET reorder_point = -1", asyncpg.CheckViolationError),
    ],
)
async def test_the_database_refuses_bad_stock_even_from_its_owner(
    inventory: Inventory, owner: Connection, statement: str, error: type[Exception]
) -> None:
    await inventory.receive(1)

    with pytest.raises(error):
        await owner.execute(statement)


@pytest.mark.parametrize("table", ["ledger_entry", "stock_transaction", "reservation", "idempotency_key"])
async def test_the_service_itself_has_no_grant_to_change_history(connection: Connection, table: str) -> None:
    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}", f"UPDATE {table} SET created_at = now()"):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedColumnError)):
            await connection.execute(statement)


@pytest.mark.parametrize(
    ("sequence", "before", "change", "after", "constraint"),
    [
        (2, 5, -1, 5, "balance_adds_up"),
        (2, 0, -1, -1, "balance_not_negative"),
        (2, 6, -1, 5, "balance_continues"),
        (3, 5, -1, 4, "balance_continues"),
    ],
)
async def test_a_wrong_balance_is_refused(
    inventory: Inventory, connection: Connection, sequence: int, before: int, change: int, after: int, constraint: str
) -> None:
    receipt = await inventory.receive(5)

    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        await connection.execute(
            """
            INSERT INTO ledger_entry (sku, warehouse_id, sequence, transaction_id, line_no, quantity_change,
                                      quantity_before, quantity_after, quantity_reserved_after, revision, occurred_at,
                                      recorded_at)
            VALUES ($1, 'BERLIN-1', $6, $2, 2, $3, $4, $5, 0, 2, now(), now())
            """,
            inventory.sku,
            receipt["transactionId"],
            change,
            before,
            after,
            sequence,
        )

    assert refused.value.constraint_name == constraint


async def test_each_change_yields_its_events_in_the_same_transaction(
    inventory: Inventory, connection: Connection
) -> None:
    await inventory.post(a_document("RECEIPT", a_line(inventory.sku, 5, unitPrice="2.5"), referenceId="PO-7"))
    await inventory.sell(5)

    events = await waiting_events(connection, inventory.sku)

    assert [event["eventType"] for event in events] == [
        "INVENTORY_UPDATE",
        "STOCK_LEVEL_CHANGE",
        "TRANSACTION",
    ] * 2
    update, change, document = events[3:]
    assert (update["sequence"], update["quantityChange"], update["quantityOnHand"]) == (2, -5, 0)
    assert (change["stockStatus"], change["cause"], change["revision"]) == ("OUT_OF_STOCK", "transaction", 2)
    assert (document["quantityChange"], document["lineCount"], document["sku"]) == (-5, 1, None)
    assert events[0]["unitPrice"] == "2.500000"
    assert [INVENTORY_EVENTS.single.validate_json(json.dumps(event)) for event in events]


async def test_the_list_says_what_single_reads_say_and_both_see_what_was_just_posted(inventory: Inventory) -> None:
    await inventory.receive(5)

    single = await inventory.http.get(f"/stock-levels/BERLIN-1/{inventory.sku}")
    page = await inventory.http.get("/stock-levels", params={"sku": inventory.sku})

    assert single.json()["quantityOnHand"] == 5
    assert page.text == f'{{"items":[{single.text}],"nextCursor":null}}'
    assert StockLevelOut.model_validate_json(single.content).model_dump_json(by_alias=True) == single.text


async def test_thresholds_are_edited_under_an_etag_and_published(inventory: Inventory, connection: Connection) -> None:
    await inventory.receive(5)
    path = f"/stock-levels/BERLIN-1/{inventory.sku}"
    tag = (await inventory.http.get(path)).headers["ETag"]
    body = {"reorderPoint": 5, "reorderQuantity": 20}

    without = await inventory.http.patch(f"{path}/thresholds", json=body)
    edited = await inventory.http.patch(f"{path}/thresholds", json=body, headers={"If-Match": tag})
    stale = await inventory.http.patch(f"{path}/thresholds", json=body, headers={"If-Match": tag})

    assert (without.status_code, edited.status_code, stale.status_code) == (428, 200, 412)
    assert edited.json()["stockStatus"] == "LOW_STOCK"
    event = (await waiting_events(connection, inventory.sku))[-1]
    assert (event["cause"], event["reorderPoint"], event["revision"]) == ("thresholds", 5, 2)


async def test_republished_events_are_the_very_same(
    inventory: Inventory, connection: Connection, owner: Connection, pool: Pool
) -> None:
    await inventory.post(a_document("RECEIPT", a_line(inventory.sku, 5, unitPrice="2.5"), notes="one"))
    await inventory.sell(2)
    wanted = ("INVENTORY_UPDATE", "TRANSACTION")
    before = [each for each in await waiting_events(connection, inventory.sku) if each["eventType"] in wanted]
    await owner.execute("DELETE FROM outbox")

    await republish(pool, LONG_AGO)

    after = [each for each in await waiting_events(connection, inventory.sku) if each["eventType"] in wanted]
    assert sorted(after, key=lambda each: str(each["eventId"])) == sorted(before, key=lambda each: str(each["eventId"]))
    assert await republish(pool, LONG_AGO) > 0
    assert await connection.fetchval("SELECT count(*) = count(DISTINCT event_id) FROM outbox")


async def statements_of(pool: Pool, documents: list[Document]) -> int:
    """How many SQL statements posting these documents takes."""
    counted = 0

    def count(_record: object) -> None:
        nonlocal counted
        counted += 1

    async with acquired(pool) as connection, connection.transaction():
        connection.add_query_logger(count)
        outcomes = await ledger.post_in(connection, documents, ErrorPolicy.REJECT_ALL)
        connection.remove_query_logger(count)
        assert all(isinstance(outcome, Posted) for outcome in outcomes)
    return counted


def a_receipt(sku: str, lines: int) -> Document:
    line = Line(sku, "BERLIN-1", 1)
    return Document(uuid4(), TransactionType.RECEIPT, [line] * lines, request_hash=b"", actor="test")


async def test_the_number_of_statements_does_not_depend_on_lines_or_documents(inventory: Inventory, pool: Pool) -> None:
    one = await statements_of(pool, [a_receipt(inventory.sku, 1)])
    many_lines = await statements_of(pool, [a_receipt(inventory.sku, 1000)])
    many_documents = await statements_of(pool, [a_receipt(inventory.sku, 10) for _ in range(100)])

    assert one == many_lines == many_documents <= 10


async def test_entries_are_listed_without_gaps(inventory: Inventory) -> None:
    for _ in range(3):
        await inventory.receive(2)

    first = await inventory.http.get("/ledger-entries", params={"sku": inventory.sku, "limit": 2})
    second = await inventory.http.get(
        "/ledger-entries", params={"sku": inventory.sku, "limit": 2, "cursor": first.json()["nextCursor"]}
    )

    entries = first.json()["items"] + second.json()["items"]
    assert [entry["sequence"] for entry in entries] == [1, 2, 3]
    assert [entry["quantityBefore"] for entry in entries] == [0, 2, 4]
    assert second.json()["nextCursor"] is None
