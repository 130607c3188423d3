"""What must hold when the trouble is over. Each check compares what is expected with what the stores hold."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import ConsumerRecord

from libs.events.envelope import document_event_id, stock_item_event_id, stock_item_key
from libs.events.topics import INVENTORY_EVENTS, REORDER_EVENTS, TOPICS
from services.pipeline.cache import LEVELS, METRICS
from tools.chaos import injection, topic
from tools.chaos.oracle import Bucket, Oracle, StockItem
from tools.chaos.stores import GROUPS, Position, RecordPlace, Stores

MOST_EXAMPLES = 5
_ABSENT = object()

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    invariant: str
    checked: int
    wrong: int
    examples: tuple[str, ...] = ()


def compare(invariant: str, expected: Mapping[Key, object], found: Mapping[Key, object]) -> Finding:
    """Every key must be on both sides, with equal values."""
    examples: list[str] = []
    wrong = 0
    for key in expected.keys() | found.keys():
        wanted, got = expected.get(key, _ABSENT), found.get(key, _ABSENT)
        if wanted != got:
            wrong += 1
            if len(examples) < MOST_EXAMPLES:
                examples.append(f"{key}: expected {_shown(wanted)}, found {_shown(got)}")
    return Finding(invariant, len(expected), wrong, tuple(examples))


def compare_sets(invariant: str, expected: Iterable[Hashable], found: Iterable[Hashable]) -> Finding:
    """Every member must be on both sides exactly once."""
    return compare(invariant, dict.fromkeys(expected, 1), Counter(found))


def _shown(value: object) -> str:
    return "nothing" if value is _ABSENT else str(value)


@dataclass(frozen=True, slots=True)
class Topics:
    """Every record of every topic, with the injected ones told apart."""

    records: Mapping[str, Sequence[ConsumerRecord]]

    @classmethod
    async def read(cls, stores: Stores) -> "Topics":
        """The topics as they are now, those of the dead letters included."""
        names = [name for each in TOPICS for name in (each.name, each.dead_letters)]
        return cls({name: await topic.read_all(stores.kafka, name) for name in names})

    def injected(self) -> Counter[str]:
        """How many records of each kind were injected."""
        marks = (topic.mark(record) for each in TOPICS for record in self.records[each.name])
        return Counter(mark for mark in marks if mark is not None)

    def own_updates(self) -> Iterable[dict[str, Any]]:
        """The ledger entries that the relays sent, in order within each key."""
        for record in self.records[INVENTORY_EVENTS.name]:
            if topic.mark(record) is None:
                event = json.loads(record.value)
                if event["eventType"] == "INVENTORY_UPDATE":
                    yield event

    def reorder_events(self) -> dict[str, dict[str, Any]]:
        """What reorder published, by event id."""
        events = (
            json.loads(record.value) for record in self.records[REORDER_EVENTS.name] if topic.mark(record) is None
        )
        return {event["eventId"]: event for event in events}

    def poison_places(self) -> set[RecordPlace]:
        """Where dead letters must come from: each poison record, for each group that reads its topic."""
        return {
            (group, record.topic, record.partition, record.offset)
            for group, sources in GROUPS.items()
            for source in sources
            for record in self.records[source.name]
            if topic.mark(record) in _refused_by(group)
        }

    def archived(self, name: str, rows: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
        """The records of a topic that belong into the lake, which holds `rows`.

        Of the records of an event its maintenance may have left the last one only.
        """
        refused = {*_refused_by("pipeline-archive"), injection.UNKNOWN}
        records = [record for record in self.records[name] if topic.mark(record) not in refused]
        places = {(record.partition, record.offset) for record in records}
        last = {_identity(json.loads(record.value)): (record.partition, record.offset) for record in records}
        return set(last.values()) | (places & set(rows))

    def external_ids(self, *kinds: str) -> set[str]:
        """Event ids of the injected updates of third parties."""
        return {
            json.loads(record.value)["eventId"]
            for record in self.records[INVENTORY_EVENTS.name]
            if topic.mark(record) in kinds
        }

    def mirrored(self) -> set[tuple[str, str]]:
        """Group and place of every record on the dead letter topics."""
        headers = [dict(record.headers) for each in TOPICS for record in self.records[each.dead_letters]]
        return {(header["dlq_group"].decode(), header["dlq_place"].decode()) for header in headers}


def _identity(event: Mapping[str, Any]) -> tuple[str, str, bool]:
    """What the lake tells the events of a date apart by; only third parties' updates have no sequence."""
    return event["eventType"], event["eventId"], event.get("sequence") is None


def _refused_by(group: str) -> set[str]:
    """Kinds of injected records that a group must refuse: only the stream looks at the clock."""
    return {injection.POISON, injection.FUTURE} if group == "pipeline-stream" else {injection.POISON}


async def check(stores: Stores, oracle: Oracle, topics: Topics) -> list[Finding]:
    """Every invariant."""
    return [
        *await _ledger(stores, oracle),
        *_order(oracle, topics),
        *await _pipeline(stores, oracle, topics),
        *await _positions(stores),
        *await _reorder(stores, oracle, topics),
        *await _redis(stores),
        *await _mongo(stores, oracle),
        *await _lake(stores, oracle, topics),
        *await _progress(stores, topics),
    ]


async def _ledger(stores: Stores, oracle: Oracle) -> list[Finding]:
    documents: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    sequences: dict[StockItem, list[int]] = defaultdict(list)
    for row in await stores.ledger():
        item = row["sku"], row["warehouse_id"]
        documents[str(row["transaction_id"])].append((*item, row["quantity_change"]))
        sequences[item].append(row["sequence"])
    levels = await stores.levels()
    return [
        compare("ledger = acknowledged documents, line by line", _lines(oracle), documents),
        compare(
            "sequences of each stock item are 1, 2, 3 ...",
            {item: list(range(1, count + 1)) for item, count in oracle.entries.items()},
            {item: sorted(numbers) for item, numbers in sequences.items()},
        ),
        compare(
            "stock on hand = sum of acknowledged changes",
            oracle.on_hand,
            {item: level.quantity_on_hand for item, level in levels.items()},
        ),
        compare("audits of the ledger find nothing", {"exit code": 0}, {"exit code": (await stores.audit())[0]}),
    ]


def _lines(oracle: Oracle) -> dict[str, list[tuple[str, str, int]]]:
    return {
        str(document_id): [(line.sku, line.warehouse_id, line.quantity_change) for line in document.lines]
        for document_id, document in oracle.documents.items()
    }


def _order(oracle: Oracle, topics: Topics) -> list[Finding]:
    last: dict[StockItem, int] = defaultdict(int)
    violations = []
    for event in topics.own_updates():
        item = event["sku"], event["warehouseId"]
        number = event["sequence"]
        if number > last[item] + 1:
            violations.append(f"{item}: {number} after {last[item]}")
        last[item] = max(last[item], number)
    return [
        Finding(
            "first occurrences of sequences rise by 1 per key",
            sum(oracle.entries.values()),
            len(violations),
            tuple(violations[:MOST_EXAMPLES]),
        ),
        compare("every ledger entry reached the topic", oracle.entries, last),
    ]


async def _pipeline(stores: Stores, oracle: Oracle, topics: Topics) -> list[Finding]:
    metrics = await stores.metrics()
    return [
        compare("hourly facts = oracle", oracle.hourly, await stores.hourly()),
        compare("daily facts = oracle", oracle.daily, await stores.daily()),
        *(
            compare(
                f"demand of {days} days = oracle",
                oracle.demand(days),
                {item: row[f"demand_{days}"] for item, row in metrics.items()},
            )
            for days in (7, 30, 90)
        ),
        compare_sets(
            "updates of third parties are kept once, apart",
            topics.external_ids(injection.EXTERNAL),
            await stores.external_ids(),
        ),
    ]


async def _positions(stores: Stores) -> list[Finding]:
    levels = await stores.levels()
    return [
        compare("positions of the pipeline = stock levels, none missing", levels, await stores.pipeline_positions()),
        compare("positions of reorder = stock levels, none missing", levels, await stores.reorder_positions()),
    ]


async def _reorder(stores: Stores, oracle: Oracle, topics: Topics) -> list[Finding]:
    """Each recommendation is triggered once, and told with each revision until it is withdrawn."""
    published = topics.reorder_events()
    revisions = await stores.recommendation_revisions()
    told = Counter(
        event["recommendationId"] for event in published.values() if event["eventType"] == "REORDER_RECOMMENDATION"
    )
    return [
        compare("open recommendations = oracle", oracle.recommended(), await stores.recommended()),
        compare_sets(
            "each crossing of a reorder point is published once",
            revisions,
            [event["recommendationId"] for event in published.values() if event["eventType"] == "REORDER_TRIGGERED"],
        ),
        compare(
            "each figure of a recommendation is published",
            {name: revision - (status == "withdrawn") for name, (status, revision) in revisions.items()},
            told,
        ),
        compare_sets("MongoDB: each reorder event once", published, await stores.reorder_event_ids()),
        compare_sets(
            "lake: its reader shows each reorder event once",
            published,
            [
                event_id
                for event_type in ("REORDER_TRIGGERED", "REORDER_RECOMMENDATION")
                for event_id in await stores.lake_events(REORDER_EVENTS, event_type)
            ],
        ),
    ]


async def _redis(stores: Stores) -> list[Finding]:
    positions = await stores.pipeline_positions()
    metrics = await stores.metrics()
    levels = await stores.cached(LEVELS)
    return [
        compare(
            "Redis: stock = Postgres",
            {
                item: (position.revision, position.quantity_on_hand, position.quantity_reserved)
                for item, position in positions.items()
            },
            {
                item: (level["revision"], level["quantityOnHand"], level["quantityReserved"])
                for item, level in levels.items()
            },
        ),
        compare(
            "Redis: metrics = Postgres",
            {item: (row["revision"], [row[f"demand_{days}"] for days in (7, 30, 90)]) for item, row in metrics.items()},
            {
                item: (metric["revision"], [window["demand"] for window in metric["windows"]])
                for item, metric in (await stores.cached(METRICS)).items()
            },
        ),
        compare_sets(
            "Redis: low stock = Postgres",
            (stock_item_key(warehouse, sku) for (sku, warehouse), position in positions.items() if _is_low(position)),
            await stores.low_stock(),
        ),
    ]


def _is_low(position: Position) -> bool:
    return position.quantity_on_hand - position.quantity_reserved <= (position.reorder_point or 0)


async def _mongo(stores: Stores, oracle: Oracle) -> list[Finding]:
    metrics = await stores.metrics()
    revisions = {item: row["revision"] for item, row in metrics.items()}
    as_of = oracle.as_of.isoformat()
    return [
        compare(
            "MongoDB: each document once",
            {"documents": len(oracle.documents)},
            {"documents": await stores.history_size()},
        ),
        compare("MongoDB: lines = acknowledged documents", _lines(oracle), await stores.history()),
        *[
            compare(f"MongoDB: {metric} = Postgres", revisions, await stores.metric_revisions(metric, as_of))
            for metric in ("velocity", "trend")
        ],
    ]


async def _lake(stores: Stores, oracle: Oracle, topics: Topics) -> list[Finding]:
    updates = {
        str(stock_item_event_id("INVENTORY_UPDATE", warehouse_id, sku, number))
        for (sku, warehouse_id), count in oracle.entries.items()
        for number in range(1, count + 1)
    }
    external = topics.external_ids(injection.EXTERNAL, injection.FUTURE)
    documents = {str(document_event_id("TRANSACTION", each, 1)) for each in oracle.documents}
    rows = {each.name: await stores.lake_rows(each) for each in TOPICS}
    return [
        *[
            compare_sets(f"lake: every record of {name} once", topics.archived(name, found), Counter(found).elements())
            for name, found in rows.items()
        ],
        compare_sets(
            "lake: its reader shows each ledger entry once",
            updates | external,
            await stores.lake_events(INVENTORY_EVENTS, "INVENTORY_UPDATE"),
        ),
        compare_sets(
            "lake: its reader shows each document once",
            documents,
            await stores.lake_events(INVENTORY_EVENTS, "TRANSACTION"),
        ),
    ]


async def _progress(stores: Stores, topics: Topics) -> list[Finding]:
    ends = await stores.end_offsets()
    expected = {
        (group, place.topic, place.partition): end
        for group, sources in GROUPS.items()
        for place, end in ends.items()
        if place.topic in {source.name for source in sources}
    }
    found = {place: offset or 0 for place, offset in (await stores.next_offsets()).items()}
    poison = topics.poison_places()
    return [
        compare("offsets of every group = end offsets", expected, found),
        compare_sets("dead letters = injected poison", poison, await stores.dead_letters()),
        compare_sets(
            "dead letter topics = injected poison",
            {(group, f"{name}[{partition}]@{offset}") for group, name, partition, offset in poison},
            topics.mirrored(),
        ),
        compare("nothing waits", dict.fromkeys(waiting := await stores.waiting(), 0), waiting),
    ]


def control(oracle: Oracle, found: Mapping[Bucket, tuple[int, int, int]]) -> Finding:
    """How many hourly facts the naive worker got wrong."""
    expected = {bucket: (total.entries, total.units_in, total.units_out) for bucket, total in oracle.hourly.items()}
    return compare("control: aggregates", expected, found)
