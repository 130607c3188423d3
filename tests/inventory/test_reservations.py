"""Reservations over REST."""

import asyncio
import csv
import io
from typing import Any
from uuid import uuid4

from libs.chassis.database import Connection, Pool
from services.inventory import reservations
from tests.inventory.client import Inventory, Json, a_document, a_line


def a_reservation(sku: str, quantity: int, **facts: Any) -> Json:
    line = {"sku": sku, "warehouseId": "BERLIN-1", "quantity": quantity}
    return {"reservationId": str(uuid4()), "lines": [line], **facts}


async def reserve(inventory: Inventory, quantity: int, **facts: Any) -> Json:
    answer = await inventory.http.post("/reservations", json=a_reservation(inventory.sku, quantity, **facts))
    assert answer.status_code == 201, answer.text
    body: Json = answer.json()
    return body


async def make_overdue(owner: Connection, reservation_id: str) -> None:
    """Let the time of a reservation be up."""
    for table in ("reservation", "allocation"):
        await owner.execute(
            f"UPDATE {table} SET expires_at = now() - interval '1 s'"
            + (", created_at = now() - interval '1 h'" if table == "reservation" else "")
            + " WHERE reservation_id = $1",
            reservation_id,
        )


async def test_reserved_units_are_not_available_to_others(inventory: Inventory) -> None:
    await inventory.receive(10)

    reservation = await reserve(inventory, 7)
    sale = await inventory.sell(4)

    assert reservation["status"] == "active"
    assert sale.status_code == 409
    level = await inventory.level()
    assert (level["quantityOnHand"], level["quantityReserved"], level["quantityAvailable"]) == (10, 7, 3)


async def test_a_reservation_again_changes_nothing(inventory: Inventory) -> None:
    await inventory.receive(10)
    body = a_reservation(inventory.sku, 4)
    await inventory.http.post("/reservations", json=body)

    again = await inventory.http.post("/reservations", json=body)
    other = await inventory.http.post("/reservations", json={**body, "ttlSeconds": 5})

    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert (await inventory.level())["quantityReserved"] == 4


async def test_what_there_is_is_reserved_when_a_part_will_do(inventory: Inventory) -> None:
    await inventory.receive(3)

    refused = await inventory.http.post("/reservations", json=a_reservation(inventory.sku, 5))
    partial = await reserve(inventory, 5, allowPartial=True)

    assert (refused.status_code, refused.json()["code"]) == (409, "insufficient-stock")
    assert (partial["lines"][0]["quantityRequested"], partial["lines"][0]["quantity"]) == (5, 3)


async def test_a_reservation_becomes_a_sale_in_parts(inventory: Inventory) -> None:
    await inventory.receive(10)
    path = f"/reservations/{(await reserve(inventory, 6))['reservationId']}"
    part = {
        "transactionId": str(uuid4()),
        "lines": [{"sku": inventory.sku, "warehouseId": "BERLIN-1", "quantity": 2, "unitPrice": "9.99"}],
    }

    first = await inventory.http.post(f"{path}/fulfilments", json=part)
    again = await inventory.http.post(f"{path}/fulfilments", json=part)
    rest = await inventory.http.post(f"{path}/fulfilments", json={"transactionId": str(uuid4())})
    nothing = await inventory.http.post(f"{path}/fulfilments", json={"transactionId": str(uuid4())})

    assert (first.status_code, again.status_code, rest.status_code) == (201, 200, 201)
    assert first.json()["transactionType"] == "SALE"
    assert (nothing.status_code, nothing.json()["code"]) == (409, "not-reserved")
    level = await inventory.level()
    assert (level["quantityOnHand"], level["quantityReserved"]) == (4, 0)
    assert (await inventory.http.get(path)).json()["status"] == "fulfilled"


async def test_more_than_was_reserved_cannot_be_taken(inventory: Inventory) -> None:
    await inventory.receive(10)
    mine, other = await reserve(inventory, 2), await reserve(inventory, 5)
    line = {"sku": inventory.sku, "warehouseId": "BERLIN-1", "quantity": 3}

    answer = await inventory.http.post(
        f"/reservations/{mine['reservationId']}/fulfilments", json={"transactionId": str(uuid4()), "lines": [line]}
    )

    assert (answer.status_code, answer.json()["code"]) == (409, "not-reserved")
    assert (await inventory.http.get(f"/reservations/{other['reservationId']}")).json()["status"] == "active"


async def test_units_are_given_back_in_parts_once_per_key(inventory: Inventory) -> None:
    await inventory.receive(10)
    path = f"/reservations/{(await reserve(inventory, 6))['reservationId']}/releases"
    part = {"lines": [{"sku": inventory.sku, "warehouseId": "BERLIN-1", "quantity": 2}]}

    for _ in range(3):
        released = await inventory.http.post(path, json=part, headers={"Idempotency-Key": "release-1"})
    other = await inventory.http.post(path, json={}, headers={"Idempotency-Key": "release-1"})
    assert released.json()["lines"][0]["outstanding"] == 4
    assert other.status_code == 422
    everything = await inventory.http.post(path, json={})

    assert everything.json()["status"] == "released"
    assert (await inventory.level())["quantityReserved"] == 0


async def test_an_overdue_hold_never_refuses_a_sale_nor_shows_in_the_level(
    inventory: Inventory, owner: Connection
) -> None:
    await inventory.receive(10)
    reservation = await reserve(inventory, 10)
    await make_overdue(owner, reservation["reservationId"])

    assert (await inventory.level())["quantityAvailable"] == 10
    listed = await inventory.http.get("/stock-levels", params={"sku": inventory.sku})
    assert listed.json()["items"][0]["quantityAvailable"] == 10
    exported = csv.DictReader(io.StringIO((await inventory.http.get("/exports/stock-levels")).text))
    assert [row["quantityAvailable"] for row in exported if row["sku"] == inventory.sku] == ["10"]
    sale = await inventory.sell(10)

    assert sale.status_code == 201
    assert (await inventory.level())["quantityReserved"] == 0
    found = (await inventory.http.get(f"/reservations/{reservation['reservationId']}")).json()
    assert (found["status"], found["lines"][0]["released"]) == ("expired", 10)


async def test_an_overdue_reservation_cannot_be_fulfilled(inventory: Inventory, owner: Connection) -> None:
    await inventory.receive(10)
    reservation = await reserve(inventory, 10)
    await make_overdue(owner, reservation["reservationId"])

    answer = await inventory.http.post(
        f"/reservations/{reservation['reservationId']}/fulfilments", json={"transactionId": str(uuid4())}
    )

    assert (answer.status_code, answer.json()["code"]) == (410, "reservation-expired")


async def test_an_overdue_reservation_is_expired_swept_or_not(
    inventory: Inventory, owner: Connection, pool: Pool
) -> None:
    await inventory.receive(5)
    reservation = await reserve(inventory, 5)
    await make_overdue(owner, reservation["reservationId"])
    path = f"/reservations/{reservation['reservationId']}/fulfilments"

    before = await inventory.http.post(path, json={"transactionId": str(uuid4())})
    await reservations.sweep(pool, most_holds=1_000)
    after = await inventory.http.post(path, json={"transactionId": str(uuid4())})

    assert (before.status_code, after.status_code) == (410, 410)


async def test_time_passes_by_itself(inventory: Inventory) -> None:
    await inventory.receive(1)
    await reserve(inventory, 1, ttlSeconds=1)

    await asyncio.sleep(1.1)

    assert (await inventory.sell(1)).status_code == 201


async def test_the_sweeper_writes_down_what_is_overdue(inventory: Inventory, owner: Connection, pool: Pool) -> None:
    await inventory.receive(10)
    reservation = await reserve(inventory, 10)
    await make_overdue(owner, reservation["reservationId"])

    swept = await reservations.sweep(pool, most_holds=100)

    assert swept >= 1
    assert await owner.fetchval("SELECT quantity_reserved FROM stock_level WHERE sku = $1", inventory.sku) == 0


async def test_a_count_below_what_is_reserved_is_refused_or_ends_the_newest_holds(inventory: Inventory) -> None:
    await inventory.receive(10)
    oldest, newest = await reserve(inventory, 4), await reserve(inventory, 4)
    line = {"sku": inventory.sku, "warehouseId": "BERLIN-1", "countedQuantity": 5}

    refused = await inventory.post(a_document("COUNT", line))
    counted = await inventory.post(a_document("COUNT", line, onShortfall="releaseNewest"))

    assert (refused.status_code, refused.json()["code"]) == (409, "reserved-exceeds-count")
    assert f"4 by {newest['reservationId']}" in refused.json()["detail"]
    assert counted.status_code == 201, counted.text
    level = await inventory.level()
    assert (level["quantityOnHand"], level["quantityReserved"]) == (5, 5)
    found = [(await inventory.http.get(f"/reservations/{each['reservationId']}")).json() for each in (oldest, newest)]
    assert [each["lines"][0]["outstanding"] for each in found] == [4, 1]


async def test_a_sale_from_a_reservation_is_taken_back_to_the_available_stock(inventory: Inventory) -> None:
    await inventory.receive(5)
    reservation = await reserve(inventory, 5)
    sale = a_document("SALE", a_line(inventory.sku, -5))
    sold = await inventory.http.post(
        f"/reservations/{reservation['reservationId']}/fulfilments", json={"transactionId": sale["transactionId"]}
    )

    answer = await inventory.http.post(
        f"/transactions/{sold.json()['transactionId']}/reversal", json={"transactionId": str(uuid4())}
    )

    assert (answer.status_code, answer.json()["transactionType"]) == (201, "RETURN")
    assert (await inventory.level())["quantityAvailable"] == 5
