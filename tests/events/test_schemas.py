import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from libs.events import json_schemas
from libs.events.decoding import decode
from libs.events.topics import TOPIC_OF, TOPICS
from tests.events.records import records
from tests.factories import an_eight_field_message, an_inventory_update


def test_the_schema_files_are_those_of_the_models() -> None:
    written = {path.name: path.read_text() for path in json_schemas.DIRECTORY.glob("*.json")}

    for name, schema in json_schemas.schemas().items():
        assert written.get(name) == json_schemas.text(schema), f"run python -m libs.events.json_schemas for {name}"


def test_every_event_type_is_published_on_one_topic() -> None:
    assert len(TOPIC_OF) == sum(len(topic.event_types) for topic in TOPICS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("INVENTORY_UPDATE", json.loads(an_inventory_update().model_dump_json())),
        ("EXTERNAL_INVENTORY_UPDATE", an_eight_field_message()),
    ],
)
def test_what_we_send_is_valid_by_its_schema(name: str, message: dict[str, object]) -> None:
    schema = json_schemas.schemas()[f"{name}.v1.json"]

    jsonschema.Draft202012Validator(schema).validate(message)


SCHEMA = json_schemas.schemas()["STOCK_LEVEL_CHANGE.v1.json"]


def _changed(**changes: Any) -> dict[str, Any]:
    schema = deepcopy(SCHEMA)
    for name, change in changes.items():
        change(schema[name])
    return schema


def test_an_optional_field_may_be_added() -> None:
    added = _changed(properties=lambda fields: fields.update(colour={"type": "string"}))

    assert json_schemas.breaches(SCHEMA, added) == []


def test_an_integer_may_be_bounded_by_what_stores_hold() -> None:
    unbounded = _changed(properties=lambda fields: fields["revision"].pop("exclusiveMaximum"))
    narrow = _changed(properties=lambda fields: fields["revision"].update(exclusiveMaximum=1000))

    assert json_schemas.breaches(unbounded, SCHEMA) == []
    assert json_schemas.breaches(unbounded, narrow) == ["/properties/revision/exclusiveMaximum is new"]


@pytest.mark.parametrize(
    ("change", "breach"),
    [
        ({"properties": lambda fields: fields.pop("cause")}, "/properties/cause is gone"),
        ({"properties": lambda fields: fields["revision"].update(type="string")}, "/properties/revision/type"),
        ({"properties": lambda fields: fields["revision"].update(minimum=2)}, "/properties/revision/minimum"),
        ({"properties": lambda fields: fields["source"].update(pattern="a")}, "/properties/source/pattern is new"),
        ({"required": lambda fields: fields.append("notes")}, "/notes is required now"),
        ({"$defs": lambda definitions: definitions["StockStatus"]["enum"].pop()}, "'OUT_OF_STOCK' is gone"),
    ],
)
def test_any_other_change_needs_a_new_version(change: dict[str, Any], breach: str) -> None:
    [found] = json_schemas.breaches(SCHEMA, _changed(**change))

    assert breach in found


GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


@pytest.mark.parametrize("file", GOLDEN, ids=[file.stem for file in GOLDEN])
def test_a_message_of_every_released_version_is_still_read(file: Path) -> None:
    message = file.read_bytes()
    topic = TOPIC_OF[json.loads(message)["eventType"]]

    decoded = decode(topic, records(message))

    assert decoded.poison == []
    read = json.loads(decoded.received[0].event.model_dump_json())
    assert read | json.loads(message) == read


def test_every_event_type_has_a_golden_message() -> None:
    assert {file.stem for file in GOLDEN} == {Path(name).stem for name in json_schemas.schemas()}
