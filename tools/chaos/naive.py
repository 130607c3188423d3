"""The control, `python -m tools.chaos.naive`: the worker that one writes first, and that the same faults must break.

It adds a batch to the sums, then commits its offsets to Kafka. A crash in between counts the batch twice, a repeat
counts twice, and nobody fences a zombie.
"""

import asyncio
import json
import logging
from collections import defaultdict
from datetime import datetime

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.events.failpoints import failpoint
from libs.events.settings import KafkaSettings
from libs.events.topics import INVENTORY_EVENTS

GROUP = "chaos-control"
CREATE = """
    CREATE SCHEMA IF NOT EXISTS chaos_control;
    CREATE TABLE IF NOT EXISTS chaos_control.hourly (
        sku text, warehouse_id text, hour bigint, transaction_type text,
        entries bigint NOT NULL, units_in bigint NOT NULL, units_out bigint NOT NULL,
        PRIMARY KEY (sku, warehouse_id, hour, transaction_type)
    );
"""
_ADD = """
    INSERT INTO chaos_control.hourly AS sum VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (sku, warehouse_id, hour, transaction_type)
    DO UPDATE SET entries = sum.entries + excluded.entries, units_in = sum.units_in + excluded.units_in,
                  units_out = sum.units_out + excluded.units_out
"""


class ControlSettings(BaseSettings):
    """Environment of the control."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    database_url: SecretStr = Field(description="The database with the schema chaos_control.")


async def consume(settings: ControlSettings, kafka: KafkaSettings) -> None:
    """Add up the topic until the process is killed."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    consumer = AIOKafkaConsumer(
        INVENTORY_EVENTS.name,
        **kafka.connection(),
        group_id=GROUP,
        group_instance_id=kafka.group_instance_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=kafka.session_timeout_ms,
        partition_assignment_strategy=(StickyPartitionAssignor,),
    )
    await consumer.start()
    while True:
        polled = await consumer.getmany(timeout_ms=500, max_records=200)
        records = [record for batch in polled.values() for record in batch]
        if records:
            await connection.executemany(_ADD, sums(records))
            failpoint("naive.upserted")
            await consumer.commit()


def sums(records: list[ConsumerRecord]) -> list[tuple[str, str, int, str, int, int, int]]:
    """Entries, units in and units out per hourly bucket; what is not a ledger entry is left out."""
    totals: dict[tuple[str, str, int, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for record in records:
        event = _event(record)
        if isinstance(event, dict) and event.get("eventType") == "INVENTORY_UPDATE" and "transactionType" in event:
            hour = int(datetime.fromisoformat(event["timestamp"]).timestamp() // 3600)
            bucket = totals[event["sku"], event["warehouseId"], hour, event["transactionType"]]
            bucket[0] += 1
            bucket[1] += max(event["quantityChange"], 0)
            bucket[2] += max(-event["quantityChange"], 0)
    return [(*bucket, entries, into, out) for bucket, (entries, into, out) in sorted(totals.items())]


def _event(record: ConsumerRecord) -> object:
    try:
        return json.loads(record.value or b"")
    except (ValueError, RecursionError):
        return None


def main() -> None:
    """Run until killed; an error ends the process, and its supervisor starts it again."""
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(consume(ControlSettings(), KafkaSettings()))


if __name__ == "__main__":
    main()
