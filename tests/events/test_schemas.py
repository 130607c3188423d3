import json

import jsonschema
import pytest

from libs.events import json_schemas
from libs.events.topics import TOPIC_OF, TOPICS
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
