"""Many writers at a time."""

import asyncio
import random
import time
from collections import Counter
from uuid import uuid4

import pytest

from libs.chassis.database import Connection, Pool
from libs.events.inventory import TransactionType
from services.inventory import ledger
from services.inventory.outcome import ErrorPolicy, Outcome, Posted
from services.inventory.transaction import Document, Line
from tests.inventory.client import Inventory, a_document, a_line

WRITERS = 64
STOCK = 100


async def test_many_writers_sell_exactly_what_there_is(inventory: Inventory) -> None:
    await inventory.receive(STOCK)

    async def sell_until_refused() -> list[int]:
        return [(await inventory.sell(1)).status_code for _ in range(4)]

    answers = await asyncio.gather(*(sell_until_refused() for _ in range(WRITERS)))

    statuses = Counter(status for answer in answers for status in answer)
    assert statuses == {201: STOCK, 409: WRITERS * 4 - STOCK}
    assert (await inventory.level())["quantityOnHand"] == 0


async def test_the_same_document_from_many_writers_is_posted_once(inventory: Inventory) -> None:
    document = a_document("RECEIPT", a_line(inventory.sku, 3))

    answers = await asyncio.gather(*(inventory.post(document) for _ in range(16)))

    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 15}
    assert len({answer.text for answer in answers}) == 1
    assert (await inventory.level())["quantityOnHand"] == 3


async def test_the_same_id_for_different_stock_is_posted_once(inventory: Inventory) -> None:
    identifier = str(uuid4())
    documents = [
        {**a_document("RECEIPT", a_line(inventory.sku, 1, warehouse)), "transactionId": identifier}
        for warehouse in ("BERLIN-1", "PARIS-1") * 8
    ]

    answers = await asyncio.gather(*(inventory.post(document) for document in documents))

    statuses = Counter(answer.status_code for answer in answers)
    assert (statuses[201], statuses[422], statuses[200]) == (1, 8, 7)


async def test_the_same_request_twice_at_a_time_is_not_refused_for_the_units_that_it_took_itself(
    inventory: Inventory, owner: Connection
) -> None:
    receipt = await inventory.receive(4)
    held = {"sku": inventory.sku, "warehouseId": "BERLIN-1", "quantity": 4}
    reservation_id, sku = str(uuid4()), inventory.sku
    requests = [
        (f"/transactions/{receipt['transactionId']}/reversal", {"transactionId": str(uuid4())}),
        ("/transactions", a_document("RECEIPT", a_line(sku, 3), a_line(sku, 3))),
        ("/transactions", a_document("SALE", a_line(sku, -1), a_line(sku, -1))),
        ("/reservations", {"reservationId": reservation_id, "lines": [held]}),
        (f"/reservations/{reservation_id}/fulfilments", {"transactionId": str(uuid4())}),
    ]

    for path, body in requests:
        async with asyncio.TaskGroup() as group, owner.transaction():
            await owner.execute("SELECT FROM stock_level WHERE sku = $1 FOR UPDATE", sku)
            sent = [group.create_task(inventory.http.post(path, json=body)) for _ in range(3)]
            await asyncio.sleep(0.3)

        assert sorted(task.result().status_code for task in sent) == [200, 200, 201], path

    assert (await inventory.level())["quantityOnHand"] == 0


def a_random_document(generator: random.Random, skus: list[str]) -> Document:
    lines = [
        Line(generator.choice(skus), generator.choice(("BERLIN-1", "PARIS-1")), generator.choice((-1, -2, 1, 3)))
        for _ in range(50)
    ]
    return Document(uuid4(), TransactionType.ADJUSTMENT, lines, request_hash=b"", actor="test", reason="concurrency")


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
async def test_random_documents_and_batches_of_many_lines_never_deadlock(
    inventory: Inventory, pool: Pool, seconds: float
) -> None:
    skus = [f"{inventory.sku}-{number}" for number in range(40)]
    for sku in skus:
        await inventory.create_product(sku)
        stock = [a_line(sku, 1_000_000_000, warehouse) for warehouse in ("BERLIN-1", "PARIS-1")]
        assert (await inventory.post(a_document("RECEIPT", *stock))).status_code == 201
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = await pool.fetchval(deadlocks)
    ends_at = time.monotonic() + seconds

    async def write(seed: int) -> Counter[type[Outcome]]:
        generator = random.Random(seed)
        outcomes = Counter[type[Outcome]]()
        while time.monotonic() < ends_at:
            documents = [a_random_document(generator, skus) for _ in range(generator.choice((1, 5)))]
            outcomes.update(map(type, await ledger.post(pool, documents, ErrorPolicy.ACCEPT_VALID)))
        return outcomes

    outcomes = sum(await asyncio.gather(*(write(seed) for seed in range(8))), Counter[type[Outcome]]())

    assert set(outcomes) == {Posted}
    assert await pool.fetchval(deadlocks) == before
