"""Posting a workload to a service that is not always well.

The service here is a function, because no real one can be told when to fail.
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from libs.events.inventory import TransactionType
from tools.replay.api import Api, UnexpectedAnswer
from tools.replay.catalogue import MinMaxPolicy, Product
from tools.replay.documents import Document, Line, transaction_id
from tools.replay.run import Outcome, Replay
from tools.replay.workload import Workload


class Silent:
    """A progress display that shows nothing."""

    def stage(self, name: str, total: int) -> None:
        pass

    def advance(self, steps: int) -> None:
        pass


class Inventory:
    """Accepts batches. `failures` are answered, or raised, before anything works."""

    def __init__(self, *failures: httpx.Response | Exception, refuse: Callable[[Any], bool] = lambda _: False) -> None:
        self.failures = list(failures)
        self.refuse = refuse
        self.batches: list[list[str]] = []
        self.paths: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(f"{request.method} {request.url.path}")
        if request.method == "GET":
            return httpx.Response(200, json={}, headers={"ETag": '"1"'})
        body = json.loads(request.content)
        if "transactions" in body:
            self.batches.append([document["transactionId"] for document in body["transactions"]])
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        if "transactions" not in body:
            return httpx.Response(201, json=body)
        if any(self.refuse(document) for document in body["transactions"]):
            return httpx.Response(422, json={"code": "validation-failed", "detail": "no", "errors": []})
        results = [{"index": index, "status": "posted"} for index in range(len(body["transactions"]))]
        return httpx.Response(200, json={"results": results, "posted": len(results), "replayed": 0, "rejected": 0})


def a_workload(*documents: Document) -> Workload:
    policy = MinMaxPolicy("A/1", "BERLIN 1", 1, 2)
    return Workload([Product("A/1", "A")], ["BERLIN 1"], [policy], [policy], [], documents, len(documents))


def a_document(number: int) -> Document:
    at = datetime(2011, 10, 3, 8, number, tzinfo=UTC)
    return Document(transaction_id(number), TransactionType.SALE, at, (Line("A/1", "BERLIN 1", -number),))


async def post(service: Inventory, workload: Workload, speed: float | None = None) -> Outcome:
    async with httpx.AsyncClient(transport=httpx.MockTransport(service)) as client:
        api = Api(client, "http://inventory", "http://reorder")
        return await Replay(api, Silent(), connections=1).post(workload, speed=speed)


async def test_master_data_come_before_the_documents() -> None:
    service = Inventory()

    await post(service, a_workload(a_document(1)))

    assert service.paths == [
        "POST /products",
        "POST /warehouses",
        "POST /reorder-policies",
        "GET /stock-levels/BERLIN 1/A/1",
        "PATCH /stock-levels/BERLIN 1/A/1/thresholds",
        "POST /transaction-batches",
    ]


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("the service was killed"),
        httpx.Response(503, headers={"Retry-After": "0"}),
        httpx.Response(429, headers={"Retry-After": "0"}),
    ],
)
async def test_a_batch_is_repeated_with_the_same_ids_until_it_is_answered(failure: httpx.Response | Exception) -> None:
    service = Inventory()
    documents = [a_document(1), a_document(2)]
    workload = Workload([], [], [], [], [], documents, 2)
    service.failures = [failure]

    outcome = await post(service, workload)

    ids = [str(document.transaction_id) for document in documents]
    assert service.batches == [ids, ids]
    assert (outcome.documents, outcome.lines, outcome.complete) == (2, 2, True)


async def test_an_answer_that_makes_no_sense_ends_the_replay() -> None:
    service = Inventory(httpx.Response(500, text="bug"))

    with pytest.raises(UnexpectedAnswer, match="500 bug"):
        await post(service, Workload([], [], [], [], [], [a_document(1)], 1))


async def test_a_batch_refused_as_a_whole_is_halved_until_the_bad_document_stands_alone() -> None:
    bad = a_document(5)
    service = Inventory(refuse=lambda document: document["transactionId"] == str(bad.transaction_id))
    documents = [a_document(number) for number in range(1, 9)]

    outcome = await post(service, Workload([], [], [], [], [], documents, 8))

    assert [(item.document, item.refusal.code) for item in outcome.refused] == [(bad, "validation-failed")]
    assert (outcome.documents, outcome.lines) == (7, 7)


async def test_every_document_is_accounted_for_once() -> None:
    documents = [a_document(number % 60) for number in range(2_000)]
    service = Inventory(refuse=lambda document: document["lines"][0]["quantityChange"] == -7)

    outcome = await post(service, Workload([], [], [], [], [], documents, 2_000))

    assert outcome.documents + len(outcome.refused) == 2_000
    assert Counter(item.document.lines[0].quantity_change for item in outcome.refused) == {-7: 34}


async def test_a_paced_replay_keeps_the_distance_of_the_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    service = Inventory()

    # One minute of the file per second: documents 1 and 2 lie a second apart, 2 and 4 two seconds.
    await post(service, Workload([], [], [], [], [], [a_document(1), a_document(2), a_document(4)], 3), speed=60)

    assert [len(batch) for batch in service.batches] == [1, 1, 1]
    assert slept == [pytest.approx(0.0, abs=0.2), pytest.approx(1.0, abs=0.2), pytest.approx(3.0, abs=0.2)]
