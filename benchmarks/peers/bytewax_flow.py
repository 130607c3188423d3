"""Bytewax with batches from its Kafka source to a sink of its own; it has no consumer group.

By its documentation, "Kafka operators" (1,000 records of each partition at a time, the default), "flat_map_batch" and
"Custom connectors" (`DynamicSink`).
"""

import json
from typing import Any

import psycopg
from bytewax import operators
from bytewax.connectors.kafka import operators as kafka
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from benchmarks.peers.sums import ADD_DAILY, DATABASE_URL, KAFKA, TOPIC, WRITE_POSITIONS, Sums


class PostgresPartition(StatelessSinkPartition[Any]):
    """Positions and daily sums."""

    def __init__(self) -> None:
        self._connection = psycopg.connect(DATABASE_URL, autocommit=True)

    def write_batch(self, items: list[dict[str, Any]]) -> None:
        """Add the events up and write them in one transaction."""
        sums = Sums()
        for event in items:
            sums.add_json(event)
        with self._connection.transaction():
            cursor = psycopg.RawCursor(self._connection)
            cursor.execute(WRITE_POSITIONS, sums.positions())
            cursor.execute(ADD_DAILY, sums.daily())


class PostgresSink(DynamicSink[Any]):
    """One connection per worker."""

    def build(self, step_id: str, worker_index: int, worker_count: int) -> PostgresPartition:
        """The worker's part."""
        return PostgresPartition()


flow = Dataflow("bench")
received = kafka.input("received", flow, brokers=[KAFKA], topics=[TOPIC])
events = operators.flat_map_batch("parsed", received.oks, lambda batch: [json.loads(item.value) for item in batch])
operators.output("written", events, PostgresSink())
