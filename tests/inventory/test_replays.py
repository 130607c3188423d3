"""A whole log of requests sent again changes nothing and says so; another request under a used id is refused."""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from libs.chassis.database import Connection
from tests.inventory.client import Inventory, Json, a_document, a_line

TABLES = (
    "category",
    "product",
    "warehouse",
    "stock_level",
    "stock_transaction",
    "ledger_entry",
    "reservation",
    "allocation",
    "stock_repair",
    "stock_repair_item",
    "idempotency_key",
    "outbox",
)
NATURAL_KEYS = ("sku", "warehouseId", "categoryId")
IDS = ("transactionId", "reservationId", "repairId")


@dataclass(slots=True)
class Log:
    """Sends requests and keeps them."""

    http: httpx.AsyncClient
    requests: list[httpx.Request] = field(default_factory=list)

    async def post(self, path: str, body: Json | None = None, *, key: str | None = None, **options: Any) -> Json:
        """The body of the answer to a request that is carried out."""
        headers = ({"Idempotency-Key": key} if key else {}) | options.pop("headers", {})
        request = self.http.build_request("POST", path, json=body, headers=headers, **options)
        answer = await self.http.send(request)
        assert answer.status_code in {200, 201}, answer.text
        assert "Idempotent-Replayed" not in answer.headers
        self.requests.append(request)
        found: Json = answer.json()
        return found


async def state(connection: Connection) -> dict[str, list[str]]:
    """Every row of every table."""
    return {
        table: sorted(row[0] for row in await connection.fetch(f"SELECT t::text FROM {table} AS t")) for table in TABLES
    }


@pytest.fixture
async def log(inventory: Inventory, owner: Connection) -> Log:
    """A log that holds a request to every POST route, of every kind."""
    log, sku, other = Log(inventory.http), inventory.sku, f"{inventory.sku}-other"
    await log.post("/categories", {"categoryId": f"{sku}-c", "name": "Chairs"})
    await log.post("/products", {"sku": other, "name": "Chair", "categoryId": f"{sku}-c", "unitCost": "2.5"})
    await log.post("/warehouses", {"warehouseId": f"{sku}-w", "name": "West"})

    here, there = a_line(sku, 50), a_line(sku, 5, "PARIS-1")
    receipt = await log.post("/transactions", a_document("RECEIPT", here, there))
    for kind, line in {
        "OPENING_BALANCE": a_line(other, 9),
        "SALE": a_line(sku, -2),
        "RETURN": a_line(sku, 1),
        "WRITE_OFF": a_line(sku, -1),
        "ADJUSTMENT": a_line(sku, 3),
        "COUNT": {"sku": sku, "warehouseId": "BERLIN-1", "countedQuantity": 40},
    }.items():
        await log.post("/transactions", a_document(kind, line, reason="test"))
    await log.post("/transactions", a_document("TRANSFER", a_line(sku, -4), a_line(sku, 4, "PARIS-1")))
    extra = await log.post("/transactions", a_document("RECEIPT", a_line(other, 1)))
    await log.post(f"/transactions/{extra['transactionId']}/reversal", {"transactionId": str(uuid4())})
    batch = [a_document("RECEIPT", a_line(sku, 1)), a_document("SALE", a_line(sku, -1))]
    await log.post("/transaction-batches", {"errorPolicy": "rejectAll", "transactions": batch})

    share = {"sku": sku, "warehouseId": "BERLIN-1", "quantity": 6}
    reservation = await log.post("/reservations", {"reservationId": str(uuid4()), "lines": [share]})
    path = f"/reservations/{reservation['reservationId']}"
    part = {"lines": [{**share, "quantity": 2}]}
    await log.post(f"{path}/fulfilments", {"transactionId": str(uuid4()), **part})
    await log.post(f"{path}/releases", part, key=f"{sku}-release")

    await owner.execute("UPDATE stock_level SET quantity_on_hand = quantity_on_hand + 1 WHERE sku = $1", other)
    items = [{"sku": other, "warehouseId": "BERLIN-1"}]
    repair = await log.post("/stock-repairs", {"repairId": str(uuid4()), "reason": "drift", "items": items})
    await log.post(f"/stock-repairs/{repair['repairId']}/undo", {"repairId": str(uuid4()), "reason": "not yet"})
    await log.post("/stock-repairs", {"repairId": str(uuid4()), "reason": "drift", "items": items})

    files = {
        "products": f"sku,name\n{sku}-imported,Desk\n",
        "opening-balances": f"sku,warehouseId,quantity\n{sku}-imported,BERLIN-1,7\n",
        "transactions": "transactionId,transactionType,sku,warehouseId,quantityChange\n"
        f"{uuid4()},SALE,{sku}-imported,BERLIN-1,-7\n",
    }
    for kind, content in files.items():
        parameters = {"kind": kind, "importId": str(uuid4())}
        csv = {"Content-Type": "text/csv"}
        assert (await log.post("/imports", params=parameters, content=content, headers=csv))["applied"]

    await log.post(f"/products/{sku}-imported/archive", key=f"{sku}-p")
    await log.post(f"/warehouses/{sku}-w/archive", key=f"{sku}-w")
    await log.post("/categories", {"categoryId": f"{sku}-d", "name": "Desks"})
    await log.post(f"/categories/{sku}-d/archive", key=f"{sku}-d")
    assert receipt["lineCount"] == 2
    return log


async def test_a_whole_log_again_changes_nothing_and_says_so(log: Log, connection: Connection) -> None:
    before = await state(connection)

    answers = [await log.http.send(request) for request in log.requests]

    assert await state(connection) == before
    told = {
        (str(answer.request.url.path), answer.status_code): answer.headers.get("Idempotent-Replayed")
        or {each["status"] for each in answer.json()["results"]}
        for answer in answers
    }
    batches = ("/api/v1/transaction-batches", 200)
    assert told.pop(batches) == {"replayed"}
    assert {status for _, status in told} == {200}
    assert set(told.values()) == {"true"}


async def test_another_request_under_the_same_id_is_refused(log: Log, connection: Connection) -> None:
    before = await state(connection)

    for request in log.requests:
        answer = await log.http.send(another(request))
        refused = answer.json()
        if request.url.path.endswith("/transaction-batches"):
            assert answer.status_code == 200
            refused = refused["results"][0]["problem"]
        elif is_under_a_natural_key(request):
            assert (answer.status_code, refused["code"]) == (409, "already-exists"), request.url
            continue
        else:
            assert answer.status_code == 422, (request.url, answer.text)
        assert refused["code"] == "idempotency-key-reused", request.url

    assert await state(connection) == before


def is_under_a_natural_key(request: httpx.Request) -> bool:
    return request.url.path.rsplit("/", 1)[-1] in {"products", "categories", "warehouses"}


def another(request: httpx.Request) -> httpx.Request:
    """A request with the same id that means something else."""
    url, content = request.url, request.content.decode()
    if url.path.endswith("/archive"):
        url = url.copy_with(path=url.path.replace("-imported/", "/").replace("-w/", "-x/").replace("-d/", "-c/"))
    elif url.path.endswith("/imports"):
        content += "\n"
    elif url.path.endswith("/releases"):
        content = content.replace('"quantity":2', '"quantity":1')
    elif url.path.endswith(("/stock-repairs", "/undo")):
        content = content.replace('"reason":"', '"reason":"another ')
    elif is_under_a_natural_key(request):
        content = content.replace('"name":"', '"name":"Another ')
    elif url.path.endswith("/transaction-batches"):
        content = content.replace('"transactionType"', '"notes":"another","transactionType"', 1)
    else:
        content = content.replace("{", '{"notes":"another",', 1)
    headers = {name: value for name, value in request.headers.items() if name != "content-length"}
    return httpx.Request(request.method, url, headers=headers, content=content)


def test_every_post_takes_an_id_or_an_idempotency_key(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    without = {path for path, item in paths.items() if "post" in item and not is_safe_to_repeat(item["post"])}

    # Its documents carry their ids.
    assert without == {"/api/v1/transaction-batches"}


def is_safe_to_repeat(operation: Json) -> bool:
    parameters = {parameter["name"].lower() for parameter in operation.get("parameters", ())}
    if parameters & {"idempotency-key", "importid"}:
        return True
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    return bool(set(body["required"]) & {*NATURAL_KEYS, *IDS})
