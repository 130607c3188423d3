"""Reads that arrive together are one query; no read is answered from before it was asked."""

import asyncio
from collections.abc import Collection, Mapping

from libs.chassis.coalescing import MOST_AT_ONCE, Coalesced


class Store:
    """Answers with what it holds when it is asked; remembers what it was asked."""

    def __init__(self) -> None:
        self.values = {"a": 1, "b": 2}
        self.queries: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def read_all(self, keys: Collection[str]) -> Mapping[str, int]:
        self.queries.append(list(keys))
        found = dict(self.values)
        await self.may_answer.wait()
        return {key: found[key] for key in keys if key in found}


async def test_reads_of_one_turn_are_one_query() -> None:
    store = Store()
    reads = Coalesced(store.read_all)

    found = await asyncio.gather(*(reads.read(key) for key in ("a", "b", "a", "c")))

    assert (found, store.queries) == ([1, 2, 1, None], [["a", "b", "c"]])


async def test_a_read_sees_what_was_written_before_it_although_a_query_is_under_way() -> None:
    store = Store()
    reads = Coalesced(store.read_all)
    store.may_answer.clear()
    earlier = asyncio.create_task(reads.read("a"))
    while not store.queries:
        await asyncio.sleep(0)

    store.values["a"] = 5
    later = asyncio.create_task(reads.read("a"))
    await asyncio.sleep(0)
    store.may_answer.set()

    assert (await earlier, await later) == (1, 5)


async def test_while_enough_queries_are_under_way_reads_gather() -> None:
    store = Store()
    reads = Coalesced(store.read_all)
    store.may_answer.clear()
    tasks = []
    for number in range(MOST_AT_ONCE + 3):
        tasks.append(asyncio.create_task(reads.read(str(number))))
        for _ in range(5):
            await asyncio.sleep(0)
    store.may_answer.set()
    await asyncio.gather(*tasks)

    assert [len(keys) for keys in store.queries] == [*[1] * MOST_AT_ONCE, 3]


async def test_a_reader_that_leaves_does_not_take_the_answer_from_others() -> None:
    store = Store()
    reads = Coalesced(store.read_all)
    first, second = asyncio.create_task(reads.read("a")), asyncio.create_task(reads.read("b"))
    await asyncio.sleep(0)

    first.cancel()

    assert await second == 2


async def test_a_failure_reaches_all_who_asked_and_nobody_else() -> None:
    store = Store()

    async def fail_once(keys: Collection[str]) -> Mapping[str, int]:
        if not store.queries:
            store.queries.append([])
            raise OSError("the database is away")
        return await store.read_all(keys)

    reads = Coalesced(fail_once)

    answers = await asyncio.gather(reads.read("a"), reads.read("b"), return_exceptions=True)

    assert [type(answer) for answer in answers] == [OSError, OSError]
    assert await reads.read("a") == 1
