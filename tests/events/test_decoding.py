import json

import pytest

from libs.events.decoding import decode
from libs.events.inventory import ExternalInventoryUpdate, InventoryUpdate
from libs.events.topics import INVENTORY_EVENTS
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
