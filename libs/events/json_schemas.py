"""JSON Schemas of every event, written from the models: `python -m libs.events.json_schemas`."""

import json
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from libs.events.inventory import ExternalInventoryUpdate
from libs.events.topics import TOPICS

DIRECTORY = Path(__file__).parent / "schemas"


def schemas() -> dict[str, dict[str, Any]]:
    """File name -> schema, one for each event type and for the third-party form of `INVENTORY_UPDATE`."""
    found = {f"EXTERNAL_INVENTORY_UPDATE.v{_version(ExternalInventoryUpdate)}.json": _schema(ExternalInventoryUpdate)}
    for topic in TOPICS:
        for event in topic.events:
            for event_type in get_args(event.model_fields["event_type"].annotation):
                found[f"{event_type}.v{_version(event)}.json"] = _schema(event)
    return found


def text(schema: dict[str, Any]) -> str:
    """A schema as it stands in its file."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _schema(event: type[BaseModel]) -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **event.model_json_schema(mode="validation")}


def _version(event: type[BaseModel]) -> int:
    return int(event.model_fields["schema_version"].default)


def main() -> None:
    """Write the file of each schema of the present versions; files of earlier versions stay."""
    DIRECTORY.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        (DIRECTORY / name).write_text(text(schema))


if __name__ == "__main__":
    main()
