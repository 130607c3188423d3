"""How much load and trouble a run makes."""

from dataclasses import dataclass
from typing import Final

from deploy.local.services import PROCESSES, Process


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of a run."""

    events: int
    """Ledger entries and documents, each of which becomes an event."""
    kills: int
    """SIGKILLs from outside; those at failpoints come on top."""
    seconds: float
    """Time over which load and trouble are spread."""
    server_rounds: int
    """How often each server is killed, and how often it is restarted cleanly."""
    frozen: tuple[str, ...]
    """Processes that are made zombies, one after another."""
    frozen_seconds: float
    """How long a zombie is stopped; longer than the session timeout of the consumers."""
    skus: int
    warehouses: int
    processes: tuple[Process, ...]
    failpoints: dict[str, float]
    """Probability of a SIGKILL each time the place is passed."""


_SECOND_REPLICAS: Final = (
    Process("pipeline", "stream", 2),
    Process("pipeline", "archive", 2),
    Process("reorder", "consume", 2),
    Process("analytics", "consume", 2),
    Process("inventory", "relay", 2),
    Process("reorder", "relay", 2),
    Process("pipeline", "relay", 2),
)

FULL: Final = Scale(
    events=50_000,
    kills=50,
    seconds=240.0,
    server_rounds=2,
    frozen=("pipeline-stream", "analytics-consume", "reorder-consume", "pipeline-archive", "inventory-relay"),
    frozen_seconds=40.0,
    skus=60,
    warehouses=4,
    processes=(*PROCESSES, *_SECOND_REPLICAS),
    failpoints={
        "relay.sent": 0.002,
        "consumer.written": 0.006,
        "consumer.revoked": 0.8,
        "consumer.draining": 0.7,
        "stream.deduplicated": 0.03,
        "archive.appended": 0.08,
        "metrics.cached": 0.2,
        "history.written": 0.03,
        "naive.upserted": 0.004,
    },
)

SHORT: Final = Scale(
    events=2_000,
    kills=8,
    seconds=20.0,
    server_rounds=1,
    frozen=("pipeline-stream", "analytics-consume"),
    frozen_seconds=9.0,
    skus=12,
    warehouses=2,
    processes=(
        Process("inventory", "api"),
        Process("inventory", "relay"),
        Process("inventory", "relay", 2),
        Process("reorder", "api"),
        Process("reorder", "consume"),
        Process("reorder", "relay"),
        Process("pipeline", "stream"),
        Process("pipeline", "stream", 2),
        Process("pipeline", "metrics"),
        Process("pipeline", "archive"),
        Process("pipeline", "relay"),
        Process("analytics", "consume"),
    ),
    failpoints={
        "relay.sent": 0.06,
        "consumer.written": 0.06,
        "consumer.draining": 1.0,
        "stream.deduplicated": 0.12,
        "archive.appended": 0.2,
        "metrics.cached": 0.3,
        "history.written": 0.15,
        "naive.upserted": 0.05,
    },
)
