"""Dead letters of the history: tried again by themselves, and by one person at a time."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from libs.events.dead_letter_retry import NotPending, Status
from services.analytics.consumer import GROUP, HistorySink
from services.analytics.dead_letters import MongoDeadLetters
from services.analytics.documents import DocumentStore
from tests.analytics.factories import a_record, a_transaction

Mongo = AsyncDatabase[dict[str, Any]]


async def bury(mongo: Mongo, number: int, error_class: str = "OverflowError", **facts: object) -> str:
    """A dead letter whose event could be applied now, two minutes old."""
    record = a_record(a_transaction(f"letter {number}"), number, "inventory-events")
    long_ago = datetime.now(UTC) - timedelta(minutes=2)
    letter = {
        "_id": f"letter-{number}",
        "group": GROUP,
        "topic": record.topic,
        "partition": 0,
        "offset": number,
        "key": record.key,
        "value": record.value,
        "headers": [],
        "eventType": None,
        "eventId": None,
        "errorClass": error_class,
        "error": "too large",
        "status": "pending",
        "attempts": 1,
        "recordTimestamp": long_ago,
        "createdAt": long_ago,
        "updatedAt": long_ago,
        **facts,
    }
    await mongo.dead_letters.insert_one(letter)
    return f"letter-{number}"


async def test_letters_are_tried_again_by_themselves_when_their_time_has_come(sink: HistorySink, mongo: Mongo) -> None:
    letters = [
        await bury(mongo, 1),
        await bury(mongo, 2, attempts=3),
        await bury(mongo, 3, attempts=10, updatedAt=datetime(2026, 1, 1, tzinfo=UTC)),
        await bury(mongo, 4, "NotAnEvent"),
        await bury(mongo, 5, value=b"garbage"),
    ]

    await sink.retry_dead_letters()

    found = {letter["_id"]: letter async for letter in mongo.dead_letters.find()}
    assert [found[letter]["status"] for letter in letters] == ["resolved", *["pending"] * 4]
    assert [found[letter]["attempts"] for letter in letters] == [2, 3, 10, 1, 2]
    assert found[letters[4]]["errorClass"] == "NotAnEvent"
    assert await mongo.transactions.count_documents({}) == 1


async def test_of_a_retry_and_a_discard_at_once_one_is_told_that_it_came_too_late(
    store: DocumentStore, mongo: Mongo
) -> None:
    letters = MongoDeadLetters(store)
    for number in range(20):
        letter_id = await bury(mongo, number)

        answers = await asyncio.gather(
            letters.retry(letter_id, by="anna"),
            letters.discard(letter_id, by="ben", note="test data"),
            letters.retry(letter_id, by="cleo"),
            return_exceptions=True,
        )

        refused = [isinstance(answer, NotPending) for answer in answers]
        letter = await letters.find(letter_id)
        assert sorted(refused) == [False, True, True]
        assert letter.resolved_by == ["anna", "ben", "cleo"][refused.index(False)]
        is_applied = await mongo.transactions.count_documents({}) == 1
        assert is_applied == (letter.status is Status.RESOLVED)
        await mongo.transactions.delete_many({})


async def test_a_letter_whose_retry_died_is_free_again_after_a_while(store: DocumentStore, mongo: Mongo) -> None:
    letter_id = await bury(mongo, 1)
    assert await store.take_dead_letter(letter_id)

    with pytest.raises(NotPending, match="is being retried"):
        await MongoDeadLetters(store).discard(letter_id, by="ben", note="test data")
    await mongo.dead_letters.update_one({"_id": letter_id}, {"$set": {"takenUntil": datetime(2026, 1, 1, tzinfo=UTC)}})
    await MongoDeadLetters(store).discard(letter_id, by="ben", note="test data")

    letter = await mongo.dead_letters.find_one({"_id": letter_id})
    assert letter is not None
    assert (letter["status"], "takenUntil" in letter) == ("discarded", False)
