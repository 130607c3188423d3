"""Names and contents of the Kafka topics, and how they are created."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code
from msgspec import Struct
from msgspec.json import Decoder
from pydantic import TypeAdapter

from libs.events import client
from libs.events.analytics import AnalyticsEvent
from libs.events.columnar import Columns, columns_of, reader_of
from libs.events.envelope import Event
from libs.events.inventory import InventoryEvent
from libs.events.reorder import ReorderEvent
from libs.events.settings import KafkaSettings

DEAD_LETTER_SUFFIX: Final = ".dlq"
DESCRIBE_TRIES: Final = 100


@dataclass(frozen=True, slots=True, eq=False)
class Topic:
    """A topic and the closed union of events that we publish on it."""

    name: str
    events: tuple[type[Event], ...]
    event_types: Mapping[str, type[Event]]
    """Event type -> its model; some models serve several types."""
    single: TypeAdapter[Event]
    """Validates one event."""
    columns: Mapping[type[Struct], Columns]
    """How many events of one model are validated at once, by the rows that `reader` makes of them."""
    reader: Decoder[Struct]
    """Reads one event as a row, see `reader_of`."""

    @property
    def dead_letters(self) -> str:
        """Where records that could not be applied are mirrored."""
        return self.name + DEAD_LETTER_SUFFIX


def _topic(name: str, union: Any) -> Topic:
    events = get_args(get_args(union)[0])
    event_types = {
        event_type: event for event in events for event_type in get_args(event.model_fields["event_type"].annotation)
    }
    columns = columns_of(events)
    return Topic(name, events, event_types, TypeAdapter(union), columns, reader_of(columns))


INVENTORY_EVENTS: Final = _topic("inventory-events", InventoryEvent)
REORDER_EVENTS: Final = _topic("reorder-events", ReorderEvent)
ANALYTICS_EVENTS: Final = _topic("analytics-events", AnalyticsEvent)
TOPICS: Final = (INVENTORY_EVENTS, REORDER_EVENTS, ANALYTICS_EVENTS)

TOPIC_OF: Final = {event_type: topic for topic in TOPICS for event_type in topic.event_types}
"""Event type -> the one topic that carries it."""


def topic_named(name: str) -> Topic:
    """The topic behind a name as the broker knows it, with the deployment's prefix."""
    return next(topic for topic in TOPICS if name.endswith(topic.name))


class TopicMismatch(Exception):
    """A topic exists that is not fit for our events."""


async def ensure_topics(settings: KafkaSettings) -> list[str]:
    """Create the topics and their dead letter topics that do not exist yet; the names of the created ones.

    Raises TopicMismatch when an existing topic has another number of partitions (changing it would send the events
    of a key to another partition and break their order), is compacted, or takes no messages of our size.
    """
    names = [settings.topic(name) for topic in TOPICS for name in (topic.name, topic.dead_letters)]
    admin = AIOKafkaAdminClient(**settings.connection())
    try:
        await client.start(admin)
        configs = _configs(settings)
        wanted = [
            NewTopic(name, settings.partitions, settings.replication_factor, topic_configs=configs) for name in names
        ]
        answer = await admin.create_topics(wanted)
        created = []
        for name, code, *_ in answer.topic_errors:
            error = for_code(code)
            if code == 0:
                created.append(name)
            elif error is not TopicAlreadyExistsError:
                raise error(name)
        for description in await _described(admin, names):
            partitions = len(description["partitions"])
            if partitions != settings.partitions:
                raise TopicMismatch(f"{description['topic']} has {partitions} partitions, {settings.partitions} asked")
        await _check_configs(admin, settings, [name for name in names if name not in created])
        return created
    finally:
        await admin.close()


def _configs(settings: KafkaSettings) -> dict[str, str]:
    """What a topic of ours needs; how long it keeps its records is for the cluster to say."""
    return {
        "cleanup.policy": "delete",
        "max.message.bytes": str(settings.max_message_bytes),
        "min.insync.replicas": str(max(1, settings.replication_factor - 1)),
    }


async def _check_configs(admin: AIOKafkaAdminClient, settings: KafkaSettings, names: list[str]) -> None:
    """Raise TopicMismatch for a topic that would lose or refuse our events, as far as we may read its configuration."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    for answer in await admin.describe_configs(resources) if names else ():
        for code, _, _, topic, entries in answer.resources:
            configs = {name: value for name, value, *_ in entries} if code == 0 else {}
            if "compact" in configs.get("cleanup.policy", ""):
                raise TopicMismatch(f"{topic} is compacted: cleanup.policy={configs['cleanup.policy']}")
            if int(configs.get("max.message.bytes", settings.max_message_bytes)) < settings.max_message_bytes:
                raise TopicMismatch(
                    f"{topic} has max.message.bytes={configs['max.message.bytes']}, {settings.max_message_bytes} asked"
                )


async def _described(admin: AIOKafkaAdminClient, names: list[str]) -> list[dict[str, Any]]:
    """The topics with their partitions; another broker of a cluster hears of a new topic a little later."""
    tries = 0
    while True:
        descriptions: list[dict[str, Any]] = await admin.describe_topics(names)
        tries += 1
        if all(description["partitions"] for description in descriptions) or tries == DESCRIBE_TRIES:
            return descriptions
        await asyncio.sleep(0.1)
