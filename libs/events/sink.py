"""What a consumer writes into: results and the next offset together, so that each record counts once."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from aiokafka import TopicPartition

from libs.events.decoding import Poison, Received


class RecordId(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition, taken over from whoever had it: writes under an older epoch are refused from now on."""

    next_offset: int | None
    """None when the group has never written for this partition."""
    epoch: int
    anchor: str | None
    """`eventId` of the record before `next_offset`, to notice a recreated topic."""


@dataclass(frozen=True, slots=True)
class PartitionBatch:
    """Consecutive records of one partition, decoded. `topic` is the name as the broker knows it."""

    topic: str
    partition: int
    epoch: int
    received: Sequence[Received]
    poison: Sequence[Poison]
    next_offset: int
    anchor: str | None
    dead_in_a_row: int = 0
    """Records that became poison one after the other, up to the end of the batch and with those before it."""

    @property
    def size(self) -> int:
        """Records in the batch, skipped ones left out."""
        return len(self.received) + len(self.poison)

    def split(self) -> "tuple[PartitionBatch, PartitionBatch]":
        """The earlier and the later half."""
        offsets = sorted([item.offset for item in self.received] + [item.offset for item in self.poison])
        border = offsets[len(offsets) // 2]
        earlier = replace(
            self,
            received=[item for item in self.received if item.offset < border],
            poison=[item for item in self.poison if item.offset < border],
            next_offset=border,
            anchor=None,
        )
        later = replace(
            self,
            received=[item for item in self.received if item.offset >= border],
            poison=[item for item in self.poison if item.offset >= border],
        )
        return earlier, later

    def condemn(self, reasons: Mapping[RecordId, Poison]) -> "PartitionBatch":
        """The same batch, with the named records as poison."""
        condemned = {name.offset: dead for name, dead in reasons.items() if name[:2] == (self.topic, self.partition)}
        if not condemned:
            return self
        return replace(
            self,
            received=[item for item in self.received if item.offset not in condemned],
            poison=sorted((*self.poison, *condemned.values()), key=lambda item: item.offset),
        )


class Fenced(Exception):
    """Another worker has claimed these partitions; nothing was written."""

    def __init__(self, partitions: Collection[TopicPartition]) -> None:
        super().__init__(", ".join(f"{item.topic}[{item.partition}]" for item in partitions))
        self.partitions = frozenset(partitions)


class PoisonError(Exception):
    """These records can never be applied, for the given reasons; nothing was written. The rest may be."""

    def __init__(self, reasons: Mapping[RecordId, str]) -> None:
        super().__init__("; ".join(f"{item}: {reason}" for item, reason in list(reasons.items())[:3]))
        self.reasons = dict(reasons)


class Sink(Protocol):
    """Where a consumer group's results, dead letters and offsets live."""

    group: str

    async def claim(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Claim]:
        """Fence every earlier owner of these partitions and say where to go on."""

    async def write(self, batches: Sequence[PartitionBatch]) -> None:
        """Write results, dead letters and next offsets, all or nothing. Each partition occurs once.

        Raises Fenced, PoisonError, or whatever went wrong.
        """

    async def note_error(self, batches: Sequence[PartitionBatch], error: str) -> None:
        """Show those who watch why these partitions are put off. The next write takes it back."""

    async def retry_dead_letters(self) -> None:
        """Try dead letters again whose time has come. Never called while a write is under way."""

    def is_transient(self, error: BaseException) -> bool:
        """Whether the infrastructure failed, not the data: then the same batches are tried again, for ever."""
