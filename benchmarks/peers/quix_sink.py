"""Quix Streams with a batching sink; a checkpoint writes the sink and commits the offsets.

By its documentation, "Connectors: Creating a Custom Sink" (`BatchingSink`) and "Configuration" (`commit_every`).
"""

from tempfile import TemporaryDirectory

import psycopg
from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

from benchmarks.peers.sums import ADD_DAILY, BATCH, DATABASE_URL, GROUP, KAFKA, TOPIC, WRITE_POSITIONS, Sums


class PostgresSink(BatchingSink):
    """Positions and daily sums."""

    def __init__(self, connection: psycopg.Connection) -> None:
        super().__init__()
        self._connection = connection

    def write(self, batch: SinkBatch) -> None:
        """Add the events of one partition up and write them in one transaction."""
        sums = Sums()
        for item in batch:
            sums.add_json(item.value)
        with self._connection.transaction():
            cursor = psycopg.RawCursor(self._connection)
            cursor.execute(WRITE_POSITIONS, sums.positions())
            cursor.execute(ADD_DAILY, sums.daily())


with TemporaryDirectory() as folder, psycopg.connect(DATABASE_URL, autocommit=True) as connected:
    application = Application(
        broker_address=KAFKA,
        consumer_group=GROUP,
        auto_offset_reset="earliest",
        commit_every=BATCH,
        auto_create_topics=False,
        state_dir=folder,
        loglevel="WARNING",
    )
    frame = application.dataframe(application.topic(TOPIC, value_deserializer="json"))
    frame.sink(PostgresSink(connected))
    application.run()
