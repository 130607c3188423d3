"""Kafka records for tests, without a broker."""

from aiokafka import ConsumerRecord


def records(*values: bytes | None, first_offset: int = 0) -> list[ConsumerRecord]:
    """Consecutive records of one partition with these values."""
    return [
        ConsumerRecord("inventory-events", 0, offset, 0, 0, None, value, None, 0, len(value or b""), ())
        for offset, value in enumerate(values, first_offset)
    ]
