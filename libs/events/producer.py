"""The Kafka producer that everything here sends with: idempotent, acknowledged by all in-sync replicas."""

from functools import lru_cache

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner

from libs.events.settings import KafkaSettings

_partitioner = DefaultPartitioner()


@lru_cache(maxsize=100_000)
def partition_of(key: bytes, partitions: tuple[int, ...]) -> int:
    """Where Kafka's own clients put a key, murmur2 of it: other producers of the topic agree."""
    return int(_partitioner(key, list(partitions), list(partitions)))


def producer(settings: KafkaSettings, client_id: str) -> AIOKafkaProducer:
    """A producer that is not started yet. After any send error it must be dropped, not used again."""
    return AIOKafkaProducer(
        **settings.connection(),
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        compression_type=None if settings.compression == "none" else settings.compression,
        linger_ms=settings.linger_ms,
        max_batch_size=settings.max_batch_bytes,
        max_request_size=settings.max_message_bytes,
    )
