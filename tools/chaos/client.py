"""The load: a client that posts documents in batches, repeats what got no answer, and keeps what was acknowledged."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from uuid import UUID

import httpx

from tools.chaos.documents import Catalogue, Document, policies, thresholds
from tools.replay.api import Api, BatchAnswer, Refusal, TryAgain, UnexpectedAnswer
from tools.replay.catalogue import Product

CONNECTIONS = 4
MOST_DOCUMENTS = 25
REPEATED = 0.2
"""Share of the acknowledged batches that are posted once more, as a client does that lost the answer."""


@dataclass(slots=True)
class Posted:
    """What the service answered."""

    acknowledged: dict[UUID, Document] = field(default_factory=dict)
    refused: int = 0
    repeats: int = 0
    unexpected: list[str] = field(default_factory=list)
    """Answers that the contract does not foresee, and repeats that were not recognised."""


async def create(api: Api, items: Catalogue) -> None:
    """Create all products, warehouses, policies and thresholds. Raises RuntimeError when one is refused."""
    for sku in items.skus:
        _expect_success(await api.create_product(Product(sku, sku)))
    for warehouse_id in items.warehouses:
        _expect_success(await api.create_warehouse(warehouse_id))
    for policy in policies(items):
        _expect_success(await api.create_policy(policy))
    for policy in thresholds(items):
        _expect_success(await api.set_thresholds(policy))


class Load:
    """Posts documents at a steady rate until the accepted ones make up so many events."""

    def __init__(self, api: Api, documents: Iterator[Document], choice: random.Random, *, events: int) -> None:
        self.posted = Posted()
        self._api = api
        self._documents = documents
        self._choice = choice
        self._events = events
        self._sent = 0
        """Events of the documents that were accepted or are on their way."""

    async def run(self, seconds: float, advance: Callable[[int], None]) -> Posted:
        """Post everything, not faster than evenly over `seconds`."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as clients:
            for _ in range(CONNECTIONS):
                clients.create_task(self._post_batches(began, seconds, advance))
        return self.posted

    async def _post_batches(self, began: float, seconds: float, advance: Callable[[int], None]) -> None:
        while self._sent < self._events:
            await asyncio.sleep(max(0.0, began + seconds * self._sent / self._events - time.monotonic()))
            batch = list(islice(self._documents, self._choice.randint(1, MOST_DOCUMENTS)))
            events = sum(document.events for document in batch)
            self._sent += events
            accepted = await self.post(batch)
            made = sum(document.events for document in accepted)
            self._sent -= events - made
            if accepted and self._choice.random() < REPEATED:
                await self._post_again(accepted)
            advance(made)

    async def post(self, batch: Sequence[Document]) -> list[Document]:
        """Post one batch until it is answered; the documents that were accepted."""
        answer = await self._answer(batch)
        accepted = [document for index, document in enumerate(batch) if index not in answer.refusals]
        self.posted.acknowledged.update({document.transaction_id: document for document in accepted})
        self.posted.refused += len(answer.refusals)
        unforeseen = [refusal for refusal in answer.refusals.values() if refusal.code != "insufficient-stock"]
        self.posted.unexpected.extend(f"a document was refused: {refusal}" for refusal in unforeseen)
        return accepted

    async def _post_again(self, batch: Sequence[Document]) -> None:
        answer = await self._answer(batch)
        self.posted.repeats += len(batch)
        if answer.replayed != len(batch):
            self.posted.unexpected.append(f"of {len(batch)} repeated documents {answer.replayed} were recognised")

    async def _answer(self, batch: Sequence[Document]) -> BatchAnswer:
        bodies = [document.body() for document in batch]
        while True:
            try:
                answer = await self._api.post_batch(bodies)
            except (UnexpectedAnswer, TryAgain, httpx.TransportError) as error:
                self.posted.unexpected.append(repr(error))
                await asyncio.sleep(1.0)
                continue
            if answer.whole is None:
                return answer
            raise RuntimeError(f"a whole batch was refused: {answer.whole}")


def batches(documents: Iterator[Document], size: int) -> Iterator[list[Document]]:
    """The documents in lists of at most `size`."""
    for first in documents:
        yield [*chain([first], islice(documents, size - 1))]


def _expect_success(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise RuntimeError(f"{refusal.code}: {refusal.detail}")
