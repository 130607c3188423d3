"""JSON Schemas of every event, written from the models: `python -m libs.events.json_schemas`.

A file is a promise to those who read and send that version: it may gain optional fields, values that readers may
meet, and upper bounds of integers that no store holds, and nothing else. Any other change needs a new
`schemaVersion`, whose file stands beside the old one.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from libs.events.inventory import ExternalInventoryUpdate
from libs.events.topics import TOPICS

DIRECTORY = Path(__file__).parent / "schemas"
_PROSE = {"description", "title"}
_INTEGER_SIZES = (2**31, 2**63)


def schemas() -> dict[str, dict[str, Any]]:
    """File name -> schema, one for each event type and for the third-party form of `INVENTORY_UPDATE`."""
    found = {f"EXTERNAL_INVENTORY_UPDATE.v{_version(ExternalInventoryUpdate)}.json": _schema(ExternalInventoryUpdate)}
    for topic in TOPICS:
        for event_type, event in topic.event_types.items():
            found[f"{event_type}.v{_version(event)}.json"] = _schema(event)
    return found


def text(schema: dict[str, Any]) -> str:
    """A schema as it stands in its file."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def breaches(before: Any, after: Any, path: str = "") -> list[str]:
    """How `after` breaks the promise of `before`; empty when it only adds what is optional."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [f"{path or '/'}: {before!r} became {after!r}"]
    found = []
    for name in before.keys() - _PROSE:
        if name not in after:
            found.append(f"{path}/{name} is gone")
        elif name == "required":
            found += [f"{path}/{field} is required now" for field in set(after[name]) - set(before[name])]
        elif name == "enum":
            found += [f"{path}: {value!r} is gone" for value in before[name] if value not in after[name]]
        else:
            found += breaches(before[name], after[name], f"{path}/{name}")
    added = after.keys() - before.keys() - _PROSE
    if after.get("type") == "integer" and after.get("exclusiveMaximum") in _INTEGER_SIZES:
        added -= {"exclusiveMaximum"}
    if not path.endswith(("/properties", "/$defs")):
        found += [f"{path}/{name} is new" for name in added]
    return found


def _schema(event: type[BaseModel]) -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **event.model_json_schema(mode="validation")}


def _version(event: type[BaseModel]) -> int:
    return int(event.model_fields["schema_version"].default)


def main() -> None:
    """Write the file of each schema of the present versions, unless that would break a promise."""
    DIRECTORY.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        file = DIRECTORY / name
        if file.exists() and (broken := breaches(json.loads(file.read_text()), schema)):
            raise SystemExit(f"{name}: raise schema_version, because " + "; ".join(broken))
        file.write_text(text(schema))


if __name__ == "__main__":
    main()
