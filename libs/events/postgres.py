"""What consumers with a Postgres sink share: handlers, errors that pass, and ranges of sequences."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import asyncpg

from libs.events.sequence import Range
from libs.events.sink import PartitionBatch

Handler = Callable[[asyncpg.Connection, Sequence[PartitionBatch]], Awaitable[None]]
"""Writes the results of batches inside the sink's transaction. Idempotence and offsets are the sink's business."""

TRANSIENT = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # asyncpg's way of saying that the connection died in the middle of a statement
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
)
"""Postgres is away, restarting, full, or asks to try again (classes 08, 40, 53, 57 and 55P03)."""


def as_multirange(ranges: Iterable[Range]) -> list[asyncpg.Range[int]]:
    """Missing sequences as an `int8multirange` parameter."""
    return [asyncpg.Range(start, end) for start, end in ranges]


def as_ranges(multirange: Iterable[Any]) -> tuple[Range, ...]:
    """Missing sequences from an `int8multirange` column."""
    return tuple((item.lower, item.upper) for item in multirange)
