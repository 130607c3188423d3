"""Posting a workload through the REST API."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import TypeVar

from tools.replay.api import Api, Refusal
from tools.replay.documents import Document, batches
from tools.replay.progress import Progress
from tools.replay.workload import Workload

T = TypeVar("T")

LINES_PER_BATCH = 1_000
DOCUMENTS_PER_BATCH = 500
_SECONDS_PER_PACE = 0.5


@dataclass(frozen=True, slots=True)
class RefusedDocument:
    """A document that the inventory service refused, with all its lines."""

    document: Document
    refusal: Refusal


@dataclass(slots=True)
class Outcome:
    """What became of a workload."""

    documents: int = 0
    """Posted by this replay or, with the same ids, by an earlier one."""
    lines: int = 0
    replayed: int = 0
    """How many of `documents` the service had already."""
    refused: list[RefusedDocument] = field(default_factory=list)
    refused_setup: list[tuple[object, Refusal]] = field(default_factory=list)
    """Products, warehouses, policies and thresholds that were refused."""
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether everything was accepted."""
        return not self.refused and not self.refused_setup


class Replay:
    """Posts a workload with at most `connections` requests at a time and keeps account of every document."""

    def __init__(self, api: Api, progress: Progress, *, connections: int) -> None:
        self._api = api
        self._progress = progress
        self._connections = connections
        self.outcome = Outcome()

    async def post(self, workload: Workload, *, speed: float | None = None) -> Outcome:
        """Post master data and policies, then opening balances and thresholds, then the documents.

        Documents go out as fast as they are accepted or, with `speed`, that many times faster than they happened.
        """
        started = time.monotonic()
        await self._each("Products", workload.products, self._api.create_product)
        await self._each("Warehouses", workload.warehouses, self._api.create_warehouse)
        await self._each("Reorder policies", workload.policies, self._api.create_policy)
        self._progress.stage("Opening balances", sum(len(document.lines) for document in workload.opening_balances))
        await self._concurrently(_at_once(workload.opening_balances), self._post)
        await self._each("Thresholds", workload.thresholds, self._api.set_thresholds)
        self._progress.stage("Transaction lines", workload.line_count)
        due = _at_once(workload.documents) if speed is None else _in_time(workload.documents, speed)
        await self._concurrently(due, self._post)
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    async def _each(self, stage: str, items: Sequence[T], create: Callable[[T], Awaitable[Refusal | None]]) -> None:
        """Create every item, in any order; the refused ones are kept in the outcome."""

        async def create_one(item: T) -> None:
            if refusal := await create(item):
                self.outcome.refused_setup.append((item, refusal))
            self._progress.advance(1)

        self._progress.stage(stage, len(items))
        await self._concurrently(_each_of(items), create_one)

    async def _concurrently(self, items: AsyncIterator[T], action: Callable[[T], Awaitable[None]]) -> None:
        slots = asyncio.Semaphore(self._connections)

        async def in_slot(item: T) -> None:
            try:
                await action(item)
            finally:
                slots.release()

        try:
            async with asyncio.TaskGroup() as group:
                async for item in items:
                    await slots.acquire()
                    group.create_task(in_slot(item))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures

    async def _post(self, batch: Sequence[Document]) -> None:
        """Post a batch. One that is refused as a whole is halved until the documents at fault stand alone."""
        answer = await self._api.post_batch([document.body() for document in batch])
        if answer.whole and len(batch) > 1:
            middle = len(batch) // 2
            await self._post(batch[:middle])
            await self._post(batch[middle:])
            return
        refusals = {0: answer.whole} if answer.whole else answer.refusals
        lines = sum(len(document.lines) for document in batch)
        refused = [RefusedDocument(batch[index], refusal) for index, refusal in refusals.items()]
        self.outcome.refused += refused
        self.outcome.documents += len(batch) - len(refused)
        self.outcome.lines += lines - sum(len(item.document.lines) for item in refused)
        self.outcome.replayed += answer.replayed
        self._progress.advance(lines)


async def _each_of(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


async def _at_once(documents: Iterable[Document]) -> AsyncIterator[list[Document]]:
    for batch in batches(documents, max_lines=LINES_PER_BATCH, max_documents=DOCUMENTS_PER_BATCH):
        yield batch


async def _in_time(documents: Iterable[Document], speed: float) -> AsyncIterator[list[Document]]:
    """Batches of the documents that are due within the same half second of a run `speed` times as fast as life."""
    remaining = iter(documents)
    first = next(remaining, None)
    if first is None:
        return
    began_at = first.occurred_at
    started = time.monotonic()

    def pace(document: Document) -> int:
        return int((document.occurred_at - began_at).total_seconds() / speed / _SECONDS_PER_PACE)

    for number, due in groupby(chain([first], remaining), key=pace):
        await asyncio.sleep(max(0.0, started + number * _SECONDS_PER_PACE - time.monotonic()))
        for batch in batches(due, max_lines=LINES_PER_BATCH, max_documents=DOCUMENTS_PER_BATCH):
            yield batch
