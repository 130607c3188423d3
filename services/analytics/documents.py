"""MongoDB: the collections of the history, and `consumer_offsets`, `dead_letters` and `leases`.

The history is `transactions`, `metric_history` and `reorder_events`, which others read through the views
`transactions_v1`, `metric_history_v1` and `reorder_events_v1`.
Every write may be repeated: `_id` is derived from the event, and a metric is replaced only by a larger revision.
The one file that knows the driver.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from bson import Decimal128
from bson.codec_options import TypeCodec, TypeRegistry
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import DESCENDING, InsertOne, ReplaceOne, ReturnDocument, UpdateOne
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from services.analytics.history import Document, Documents

DUPLICATE_KEY = 11000
NAMESPACE_EXISTS = 48
NEWEST_FIRST = [("occurredAt", DESCENDING), ("_id", DESCENDING)]
PUBLISHED_VIEWS = {f"{name}_v1": name for name in ("transactions", "metric_history", "reorder_events")}
"""What other services may read, and the collection behind it."""
TIMEOUT_MS = 20_000
TAKEN = timedelta(minutes=1)
"""How long an attempt at a dead letter may take."""
TRANSIENT_CODES = frozenset({6, 7, 50, 89, 91, 112, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436})
"""The server is away, stepping down, shutting down, too slow, or asks to try again."""


class _DecimalCodec(TypeCodec):
    """Exact decimals in both directions."""

    python_type = Decimal
    bson_type = Decimal128

    def transform_python(self, value: Any) -> Any:
        return Decimal128(value)

    def transform_bson(self, value: Any) -> Any:
        return value.to_decimal()


@dataclass(frozen=True, slots=True)
class Step:
    """The progress of a partition, for as long as we own it."""

    checkpoint: str
    """As `checkpoint_id` names it."""
    epoch: int
    update: Document
    """What becomes of the checkpoint."""


class DocumentStore:
    """History, and how far its consumer has come. `prefix` stands before the names of all its collections."""

    def __init__(self, database: AsyncIOMotorDatabase[Document], prefix: str = "") -> None:
        self._database = database
        self._prefix = prefix
        self._transactions = database[f"{prefix}transactions"]
        self._reorder_events = database[f"{prefix}reorder_events"]
        self._metric_history = database[f"{prefix}metric_history"]
        self._offsets = database[f"{prefix}consumer_offsets"]
        self._dead_letters = database[f"{prefix}dead_letters"]
        self._leases = database["leases"]

    async def create_indexes_and_views(self) -> None:
        """Create what is missing of the indexes that the lists need, and of the views that others may read.

        None on the skus of the lines: it would cost several times the write itself, a document has up to 1,000.
        """
        await self._create_indexes()
        present = await self._database.list_collection_names()
        for view, collection in PUBLISHED_VIEWS.items():
            if view not in present:
                await _create_view(self._database, view, collection)

    async def _create_indexes(self) -> None:
        await self._transactions.create_index(NEWEST_FIRST)
        await self._transactions.create_index([("referenceId", DESCENDING), *NEWEST_FIRST])

    def draft(self, prefix: str) -> "DocumentStore":
        """A store beside this one, in collections that nobody reads."""
        return DocumentStore(self._database, prefix)

    async def drop(self) -> None:
        """Drop all collections of this store."""
        for collection in (*self._history, self._offsets, self._dead_letters):
            await collection.drop()

    async def create_collections(self) -> None:
        """Create the collections of the history, empty, with their indexes."""
        for collection in self._history:
            await self._database.create_collection(collection.name)
        await self._create_indexes()

    async def replace(self, other: "DocumentStore") -> None:
        """Put the history of this store in the place of another's, collection by collection."""
        for ours, theirs in zip(self._history, other._history, strict=True):
            await ours.rename(theirs.name, dropTarget=True)

    async def set_checkpoint(self, checkpoint: Document) -> None:
        """Have the group go on where a checkpoint of another store stands; whoever owns the partition is fenced."""
        place = {name: checkpoint[name] for name in ("group", "topic", "partition")}
        progress = {name: checkpoint.get(name) for name in ("nextOffset", "anchorEventId", "maxEventTime")}
        await self._offsets.update_one(
            {"_id": checkpoint["_id"]},
            {
                "$inc": {"epoch": 1},
                "$set": {**progress, "owner": checkpoint["owner"]},
                "$setOnInsert": place,
                "$currentDate": {"updatedAt": True},
            },
            upsert=True,
        )

    async def hold_lease(self, name: str, owner: str, seconds: float) -> bool:
        """Hold a name for so long, or longer if it is held already. False while another owner holds it."""
        now = datetime.now(UTC)
        free = {"_id": name, "$or": [{"owner": owner}, {"until": {"$lt": now}}]}
        held = {"$set": {"owner": owner, "until": now + timedelta(seconds=seconds)}}
        try:
            await self._leases.update_one(free, held, upsert=True)
        except DuplicateKeyError:
            return False
        return True

    async def end_lease(self, name: str, owner: str) -> None:
        """Let go of a name, if it is still ours."""
        await self._leases.delete_one({"_id": name, "owner": owner})

    @property
    def _history(self) -> Sequence[AsyncIOMotorCollection[Document]]:
        return self._transactions, self._reorder_events, self._metric_history

    async def ping(self) -> None:
        """Raise unless the server answers."""
        await self._database.command("ping")

    async def write(self, documents: Documents) -> None:
        """Write what is not there yet, and replace metrics by larger revisions of themselves."""
        await _insert(self._transactions, documents.transactions)
        await _insert(self._reorder_events, documents.reorder_events)
        present = await _insert(self._metric_history, documents.metrics)
        if present:
            newer = [
                ReplaceOne({"_id": document["_id"], "revision": {"$lt": document["revision"]}}, document)
                for document in present
            ]
            await self._metric_history.bulk_write(newer, ordered=False)

    async def transactions(self, condition: Document, after: tuple[Any, ...] | None, limit: int) -> list[Document]:
        """The newest `limit` transactions that meet the condition, after the sort key of another one."""
        conditions = [condition] if condition else []
        if after is not None:
            occurred_at, event_id = after
            conditions.append(
                {"$or": [{"occurredAt": {"$lt": occurred_at}}, {"occurredAt": occurred_at, "_id": {"$lt": event_id}}]}
            )
        query = {"$and": conditions} if conditions else {}
        return await self._transactions.find(query).sort(NEWEST_FIRST).limit(limit).to_list(limit)

    async def claim(self, group: str, topic: str, partition: int, owner: str) -> Document:
        """The checkpoint of a partition, its epoch raised: writes under an older one fail from now on."""
        place = {"group": group, "topic": topic, "partition": partition}
        claimed: Document = await self._offsets.find_one_and_update(
            {"_id": checkpoint_id(group, topic, partition)},
            {
                "$inc": {"epoch": 1},
                "$set": {"owner": owner},
                "$setOnInsert": place,
                "$currentDate": {"updatedAt": True},
            },
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return claimed

    async def advance(self, steps: Sequence[Step]) -> set[str]:
        """Write the progress of partitions whose epoch is still ours; the checkpoints of those that are not."""
        updates = [
            UpdateOne(
                {"_id": step.checkpoint, "epoch": step.epoch}, {**step.update, "$currentDate": {"updatedAt": True}}
            )
            for step in steps
        ]
        result = await self._offsets.bulk_write(updates, ordered=False)
        if result.matched_count == len(steps):
            return set()
        found = self._offsets.find({"_id": {"$in": [step.checkpoint for step in steps]}}, {"epoch": True})
        epochs = {checkpoint["_id"]: checkpoint["epoch"] async for checkpoint in found}
        return {step.checkpoint for step in steps if epochs.get(step.checkpoint) != step.epoch}

    async def checkpoints(self, group: str) -> list[Document]:
        """Where a group stands, one document per topic and partition."""
        return await self._offsets.find({"group": group}).to_list(None)

    async def bury(self, dead_letters: Sequence[Document]) -> None:
        """Keep records that could not be applied; those kept already stay as they are."""
        if dead_letters:
            kept = [UpdateOne({"_id": letter["_id"]}, {"$setOnInsert": letter}, upsert=True) for letter in dead_letters]
            await self._dead_letters.bulk_write(kept, ordered=False)

    async def dead_letters(self, status: str | None, after: str | None, limit: int) -> list[Document]:
        """Dead letters in order of their place, after another place."""
        query: Document = {"_id": {"$gt": after}} if after is not None else {}
        query |= {"status": status} if status is not None else {}
        return await self._dead_letters.find(query).sort("_id").limit(limit).to_list(limit)

    async def dead_letter(self, letter_id: str) -> Document | None:
        """One dead letter."""
        return await self._dead_letters.find_one({"_id": letter_id})

    async def all_dead_letters(self, group: str) -> list[Document]:
        """What a rebuild must know of the dead letters of a group."""
        fields = ("topic", "partition", "offset", "status", "value", "editedValue")
        return await self._dead_letters.find({"group": group}, dict.fromkeys(fields, True)).to_list(None)

    async def turn_dead_letters(self, changes: Mapping[str, Document], status: str) -> None:
        """Change dead letters that have this status, by their ids."""
        updates = [UpdateOne({"_id": letter, "status": status}, {"$set": change}) for letter, change in changes.items()]
        if updates:
            await self._dead_letters.bulk_write(updates, ordered=False)

    async def due_dead_letters(
        self, group: str, *, final_classes: Sequence[str], most_attempts: int, limit: int
    ) -> list[str]:
        """Pending dead letters of a group to try again now: waiting doubles from one minute to six hours."""
        minutes = {"$min": [{"$pow": [2, {"$subtract": ["$attempts", 1]}]}, 360]}
        due_at = {"$add": ["$updatedAt", {"$multiply": [minutes, 60_000]}]}
        query: Document = {
            "group": group,
            "status": "pending",
            "attempts": {"$lt": most_attempts},
            "errorClass": {"$nin": list(final_classes)},
            "$expr": {"$lte": [due_at, datetime.now(UTC)]},
        }
        return [found["_id"] async for found in self._dead_letters.find(query, {"_id": True}).sort("_id").limit(limit)]

    async def take_dead_letter(self, letter_id: str) -> Document | None:
        """A pending dead letter, which nobody else may take until it is marked, or a minute is over.

        None when it is not pending or taken by somebody else.
        """
        now = datetime.now(UTC)
        taken: Document | None = await self._dead_letters.find_one_and_update(
            {"_id": letter_id, "status": "pending", "takenUntil": {"$not": {"$gt": now}}},
            {"$set": {"takenUntil": now + TAKEN}},
            return_document=ReturnDocument.AFTER,
        )
        return taken

    async def release_dead_letter(self, taken: Document) -> None:
        """Let others take it, as if nothing had been tried."""
        await self._dead_letters.update_one(_still(taken), {"$unset": {"takenUntil": ""}})

    async def mark_dead_letter(self, taken: Document, status: str, changes: Document) -> bool:
        """Say how an attempt at a taken dead letter ended; whether it was still taken."""
        update = {"$set": {"status": status, **changes}, "$inc": {"attempts": 1}, "$unset": {"takenUntil": ""}}
        return (await self._dead_letters.update_one(_still(taken), update)).matched_count == 1


@asynccontextmanager
async def open_documents(url: str, application_name: str) -> AsyncIterator[DocumentStore]:
    """The store at a MongoDB address; every write is acknowledged by a majority."""
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
        url, appname=application_name, tz_aware=True, w="majority", serverSelectionTimeoutMS=5_000, timeoutMS=TIMEOUT_MS
    )
    registry = TypeRegistry([_DecimalCodec()])
    try:
        name = client.get_default_database("analytics").name
        options = client.codec_options.with_options(type_registry=registry)
        yield DocumentStore(client.get_database(name, codec_options=options))
    finally:
        client.close()


def checkpoint_id(group: str, topic: str, partition: int) -> str:
    """The id of a checkpoint."""
    return f"{group}|{topic}|{partition}"


def is_transient(error: BaseException) -> bool:
    """Whether MongoDB failed, not the document."""
    if isinstance(error, BulkWriteError):
        failures = error.details.get("writeErrors", [])
        return not failures or any(failure["code"] in TRANSIENT_CODES for failure in failures)
    if isinstance(error, ConnectionFailure | ExecutionTimeout | WriteConcernError):
        return True
    if isinstance(error, OperationFailure):
        return error.code in TRANSIENT_CODES
    return isinstance(error, PyMongoError) and error.timeout


def _still(taken: Document) -> Document:
    return {"_id": taken["_id"], "status": "pending", "takenUntil": taken["takenUntil"]}


async def _create_view(database: AsyncIOMotorDatabase[Document], view: str, collection: str) -> None:
    try:
        await database.command("create", view, viewOn=collection, pipeline=[])
    except OperationFailure as error:
        if error.code != NAMESPACE_EXISTS:
            raise


async def _insert(collection: AsyncIOMotorCollection[Document], documents: Sequence[Document]) -> list[Document]:
    """Insert what is new; the documents whose `_id` was there already."""
    if not documents:
        return []
    try:
        await collection.bulk_write([InsertOne(document) for document in documents], ordered=False)
    except BulkWriteError as error:
        failures = error.details["writeErrors"]
        if error.details["writeConcernErrors"] or any(failure["code"] != DUPLICATE_KEY for failure in failures):
            raise
        return [documents[failure["index"]] for failure in failures]
    return []
