"""Single reads that arrive together become one query."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

MOST_AT_ONCE = 2
"""Queries under way; more would only make groups smaller."""


@dataclass(frozen=True, slots=True)
class _Group(Generic[Key, Value]):
    keys: dict[Key, None]
    answer: asyncio.Task[Mapping[Key, Value]]


class Coalesced(Generic[Key, Value]):
    """Reads by key, of which those of one turn of the event loop share a query, and those that wait for a free one.

    Nothing is kept: a query begins after all reads that it answers, so each sees what was committed before it.
    """

    def __init__(self, read_all: Callable[[Collection[Key]], Awaitable[Mapping[Key, Value]]]) -> None:
        self._read_all = read_all
        self._free = asyncio.Semaphore(MOST_AT_ONCE)
        self._open: _Group[Key, Value] | None = None

    async def read(self, key: Key) -> Value | None:
        """The value of the key, None where there is none."""
        if self._open is None:
            keys: dict[Key, None] = {}
            self._open = _Group(keys, asyncio.create_task(self._answer(keys)))
        group = self._open
        group.keys[key] = None
        # Whoever leaves does not take the answer from the others.
        return (await asyncio.shield(group.answer)).get(key)

    async def _answer(self, keys: Collection[Key]) -> Mapping[Key, Value]:
        await asyncio.sleep(0)
        async with self._free:
            self._open = None
            return await self._read_all(keys)
