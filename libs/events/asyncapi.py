"""The AsyncAPI 3.0 document of the topics, written from the models: `python -m libs.events.asyncapi`."""

from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from libs.events.inventory import ExternalInventoryUpdate
from libs.events.topics import INVENTORY_EVENTS, TOPICS, Topic

FILE: Final = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"

_PUBLISHERS: Final = {"inventory-events": "inventory", "reorder-events": "reorder", "analytics-events": "pipeline"}
_HEADERS: Final = {
    "type": "object",
    "description": "CloudEvents binary mode. A message without any header is accepted.",
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "description": "eventId"},
        "ce_type": {"type": "string", "description": "eventType"},
        "ce_source": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "traceparent": {"type": "string"},
    },
}


def document() -> dict[str, Any]:
    """The whole document."""
    messages = {topic: _messages(topic) for topic in TOPICS}
    models = sorted(
        {model for found in messages.values() for model in found.values()}, key=lambda model: model.__name__
    )
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Stockflow events",
            "version": "1.0.0",
            "description": "Past facts about stock, reordering and metrics. JSON, camelCase, one key in order.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic, messages[topic]) for topic in TOPICS},
        "operations": {
            f"{_PUBLISHERS[topic.name]}Publishes": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{topic.name}"},
                "summary": f"The {_PUBLISHERS[topic.name]} service publishes; anybody may subscribe.",
            }
            for topic in TOPICS
        },
        "components": {
            "messages": {
                name: _message(name, model) for found in messages.values() for name, model in sorted(found.items())
            },
            "schemas": definitions["$defs"],
            "messageTraits": {"cloudEvent": {"headers": _HEADERS}},
        },
    }


def text() -> str:
    """The document as it stands in its file."""
    import yaml  # Services serve the document as JSON and need no YAML.

    return yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=120)


def _messages(topic: Topic) -> dict[str, type[BaseModel]]:
    external = {"EXTERNAL_INVENTORY_UPDATE": ExternalInventoryUpdate} if topic is INVENTORY_EVENTS else {}
    return {**topic.event_types, **external}


def _channel(topic: Topic, messages: dict[str, type[BaseModel]]) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": f"Key: `warehouseId:sku`, else the id of the document. Dead letters: `{topic.dead_letters}`.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in sorted(messages)},
        "bindings": {"kafka": {"topic": topic.name, "partitions": 12, "bindingVersion": "0.5.0"}},
    }


def _message(name: str, model: type[BaseModel]) -> dict[str, Any]:
    return {
        "name": name,
        "summary": (model.__doc__ or "").strip().splitlines()[0],
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
    }


if __name__ == "__main__":
    FILE.write_text(text())
