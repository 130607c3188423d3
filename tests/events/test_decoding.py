import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError

from libs.events.decoding import decode
from libs.events.envelope import Event
from libs.events.inventory import ExternalInventoryUpdate, InventoryUpdate
from libs.events.topics import INVENTORY_EVENTS, TOPIC_OF, TOPICS, Topic
from tests.events.records import records
from tests.factories import an_eight_field_message, an_inventory_update

GOOD = an_inventory_update().model_dump_json().encode()


def test_a_batch_of_good_records_keeps_order_and_offsets() -> None:
    values = [an_inventory_update(sequence=number).model_dump_json().encode() for number in (1, 2, 3)]

    decoded = decode(INVENTORY_EVENTS, records(*values, first_offset=10))

    assert [item.offset for item in decoded.received] == [10, 11, 12]
    assert [item.event for item in decoded.received] == [an_inventory_update(sequence=number) for number in (1, 2, 3)]
    assert (decoded.poison, decoded.skipped) == ([], 0)


@pytest.mark.parametrize(
    "value",
    [None, b"", b"garbage", b"[]", b"{}", b'{"eventType": 5}', GOOD[:-1], GOOD + b"," + GOOD, b"\xff", b"[" * 100_000],
)
def test_one_bad_record_is_poison_and_its_neighbours_are_not(value: bytes | None) -> None:
    decoded = decode(INVENTORY_EVENTS, records(GOOD, value, GOOD))

    assert [item.offset for item in decoded.received] == [0, 2]
    assert [item.offset for item in decoded.poison] == [1]
    assert decoded.poison[0].error


@pytest.mark.parametrize("depth", [150, 900, 1_100, 100_000])
@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_json_of_any_depth_stops_nobody(topic: Topic, depth: int) -> None:
    deep = b'{"deep":' + b"[" * depth + b"]" * depth + b"," + GOOD[1:]

    decoded = decode(topic, records(deep, deep))

    assert len(decoded.received) + len(decoded.poison) + decoded.skipped == 2
    assert topic is not INVENTORY_EVENTS or depth < 200 or len(decoded.poison) == 2


def test_an_event_type_of_a_later_version_is_skipped_and_counted() -> None:
    decoded = decode(INVENTORY_EVENTS, records(GOOD, b'{"eventType": "STOCK_DREAMT_OF"}'))

    assert (len(decoded.received), len(decoded.poison), decoded.skipped) == (1, 0, 1)


def test_a_third_partys_eight_fields_are_an_external_event() -> None:
    decoded = decode(INVENTORY_EVENTS, records(json.dumps(an_eight_field_message()).encode(), GOOD))

    assert [type(item.event) for item in decoded.received] == [ExternalInventoryUpdate, InventoryUpdate]


def test_a_ledger_event_that_lost_its_transaction_is_poison_not_external() -> None:
    message = json.loads(GOOD) | {"transactionId": None}

    decoded = decode(INVENTORY_EVENTS, records(json.dumps(message).encode()))

    assert "transactionId" in decoded.poison[0].error


def test_fragments_that_together_read_as_events_swallow_no_neighbour() -> None:
    first = GOOD + b"," + GOOD + b',{"zzz":[1'

    decoded = decode(INVENTORY_EVENTS, records(first, GOOD, b"2]}"))

    assert [item.offset for item in decoded.received] == [1]
    assert [item.offset for item in decoded.poison] == [0, 2]


@pytest.mark.parametrize(
    "facts",
    [
        {"timestamp": "9999-12-31T23:59:59-14:00"},
        {"timestamp": "0001-01-01T00:00:00+14:00"},
        {"notes": "a\0b"},
        {"referenceId": "a\0b"},
    ],
)
def test_what_no_store_can_keep_is_refused_by_every_group_alike(facts: dict[str, str]) -> None:
    decoded = decode(INVENTORY_EVENTS, records(json.dumps(an_eight_field_message(**facts)).encode()))

    assert (len(decoded.received), len(decoded.poison)) == (0, 1)


EXAMPLES = {file.name: json.loads(file.read_bytes()) for file in (Path(__file__).parent / "golden").glob("*.json")}
READ_BY_COLUMN = [
    {name: json.dumps(value) for name, value in EXAMPLES[f"{event_type}.v1.json"].items()}
    for event_type in ("INVENTORY_UPDATE", "STOCK_LEVEL_CHANGE", "INVENTORY_PROCESSED")
]
NAMES = sorted({name for fields in READ_BY_COLUMN for name in fields})
ODD_VALUES = some.sampled_from(
    [
        *(
            "null",
            "true",
            "0",
            "-0",
            "-1",
            "1.0",
            "1e2",
            "01",
            "NaN",
            "9223372036854775808",
            "1" + "0" * 40,
            "[]",
            "{}",
        ),
        *('""', '" "', '"a"', '"a "', '"\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', '"\u200b"', '"\u00e4"', '"\x01"'),
        *('"7.25"', '"1e3"', '"-0.0000001"', '"NaN"', '"1_000"', '"1234567890123.123456"', "7.25", '" 1"', '"1"'),
        *('"2026-03-02T12:00:00Z"', '"2026-03-02t12:00:00.1234567z"', '"2026-03-02T12:00:00"', '"20260302T120000Z"'),
        *('"2026-03-02 12:00:00.999999999+05:30"', '"2026-W10-1T12:00:00Z"', '"2026-03-02T24:00:00Z"', '"1772452800"'),
        *('"2026-02-30T12:00:00Z"', '"9999-12-31T23:59:59-14:00"', '"1969-12-31T23:59:59.999999Z"', "1772452800"),
        *('"5B0C4B7E2D0A5F5E9C397C1F1D1F3F6A"', '"{5b0c4b7e-2d0a-5f5e-9c39-7c1f1d1f3f6a}"', '"5b0c4b7e-2d0a"'),
        *('"SALE"', '"sale"', '"INVENTORY_UPDATE"', '"STOCK_LEVEL_CHANGE"', f'"{"x" * 65}"', f'"{"x" * 4097}"'),
    ]
)
ODD_FIELDS = some.tuples(some.sampled_from([*NAMES, "unit_cost", "sequence_", "extra"]), ODD_VALUES)


def alone_with_pydantic(topic: Topic, value: bytes) -> Event | None:
    try:
        return topic.single.validate_json(value)
    except ValidationError:
        return None


def as_json(fields: Iterable[tuple[str, str]]) -> bytes:
    return ("{" + ",".join(f'"{name}":{text}' for name, text in fields) + "}").encode()


@given(
    fields=some.sampled_from(READ_BY_COLUMN),
    replaced=some.lists(ODD_FIELDS, max_size=2),
    left_out=some.sets(some.sampled_from(NAMES), max_size=1),
    added=some.lists(ODD_FIELDS, max_size=1),
)
def test_what_is_read_by_column_is_what_pydantic_makes_of_the_event_alone(
    fields: dict[str, str],
    replaced: list[tuple[str, str]],
    left_out: set[str],
    added: list[tuple[str, str]],
) -> None:
    topic = TOPIC_OF[json.loads(fields["eventType"])]
    pairs = {name: value for name, value in {**fields, **dict(replaced)}.items() if name not in left_out}
    good, value = as_json(fields.items()), as_json([*pairs.items(), *added])

    decoded = decode(topic, records(good, value, good))

    neighbours = [item.event for item in decoded.received if item.offset != 1]
    assert [repr(event) for event in neighbours] == [repr(alone_with_pydantic(topic, good))] * 2
    made = [item.event for item in decoded.received if item.offset == 1]
    alone = alone_with_pydantic(topic, value)
    if alone is None:
        assert all(isinstance(event, ExternalInventoryUpdate) for event in made)
    else:
        assert [repr(event) for event in made] == [repr(alone)]
        assert [event.model_dump_json() for event in made] == [alone.model_dump_json()]


@pytest.mark.parametrize(
    "odd", ['{"a": [9223372036854775808]}', '{"a\\u0000": 1}', '{"a": "\\u0000"}', "[" * 60 + "]" * 60]
)
@pytest.mark.parametrize(("file", "name"), [("DATA_QUALITY_ALERT", "figures"), ("REORDER_TRIGGERED", "explanation")])
def test_a_json_object_holds_what_every_store_can_hold(file: str, name: str, odd: str) -> None:
    example = EXAMPLES[f"{file}.v1.json"]
    good, bad = example | {name: {"a": [1, {"b": "c"}]}}, example | {name: {"odd": json.loads(odd)}}

    decoded = decode(TOPIC_OF[example["eventType"]], records(*[json.dumps(event).encode() for event in (good, bad)]))

    assert [item.offset for item in decoded.received] == [0]
    assert [item.offset for item in decoded.poison] == [1]


@pytest.mark.parametrize("file", sorted(EXAMPLES))
def test_every_integer_of_an_event_fits_into_64_bits(file: str) -> None:
    example = EXAMPLES[file]
    topic = TOPIC_OF[example["eventType"]]
    integers = [name for name, value in example.items() if isinstance(value, int)]
    values = [json.dumps(example | {name: 2**63}).encode() for name in integers]

    decoded = decode(topic, records(*values))

    assert integers
    assert [item.offset for item in decoded.poison] == list(range(len(integers)))


@pytest.mark.parametrize("file", sorted(EXAMPLES))
def test_an_event_that_lacks_any_of_its_fields_is_what_pydantic_makes_of_it(file: str) -> None:
    example = EXAMPLES[file]
    topic = TOPIC_OF[example["eventType"]]
    values = [
        json.dumps({name: value for name, value in example.items() if name != left_out}).encode()
        for left_out in example
    ]

    decoded = decode(topic, records(*values))

    made = {item.offset: item.event for item in decoded.received}
    for index, value in enumerate(values):
        event = made.get(index)
        alone = alone_with_pydantic(topic, value)
        assert repr(event) == repr(alone) or isinstance(event, ExternalInventoryUpdate)
    assert len(values) == len(decoded.received) + len(decoded.poison)


def test_values_that_repeat_are_read_once() -> None:
    values = [
        an_inventory_update(sku=sku, sequence=number, unit_price=Decimal(price)).model_dump_json().encode()
        for number, (sku, price) in enumerate([("A", "1.50"), ("B", "1.5"), ("A", "1.50"), ("A", "1.50")], 1)
    ]

    first, second, third, _ = [item.event for item in decode(INVENTORY_EVENTS, records(*values)).received]

    assert isinstance(first, InventoryUpdate)
    assert isinstance(second, InventoryUpdate)
    assert first.sku is third.sku
    assert (str(first.unit_price), str(second.unit_price)) == ("1.50", "1.5")
