"""What becomes of a stock transaction that is sent. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.inventory.refusal import BatchRejected, KeyReused, Refused
from services.inventory.transaction import Document, Entry


class ErrorPolicy(StrEnum):
    """What happens to the valid documents of a batch that also holds refused ones."""

    REJECT_ALL = "rejectAll"
    ACCEPT_VALID = "acceptValid"


@dataclass(frozen=True, slots=True)
class Posted:
    """The document is in the ledger now."""

    document: Document
    entries: list[Entry]
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Replayed:
    """The document was posted before; nothing has changed."""

    document: Document


@dataclass(frozen=True, slots=True)
class Rejected:
    """The document was refused; nothing has changed."""

    document: Document
    error: Refused


Outcome = Posted | Replayed | Rejected


def repeated(document: Document, posted_hash: bytes) -> Outcome:
    """The outcome of a document whose id is in use, by a request with this hash."""
    if document.request_hash == posted_hash:
        return Replayed(document)
    return Rejected(document, KeyReused(f"{document.transaction_id} was used before with another body"))


def under(policy: ErrorPolicy, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes of a batch under its policy: with `rejectAll`, one refusal leaves nothing posted."""
    if policy is ErrorPolicy.ACCEPT_VALID or not any(isinstance(outcome, Rejected) for outcome in outcomes):
        return list(outcomes)
    refusal = BatchRejected("Another document of the batch was refused")
    given_up = {outcome.document.transaction_id for outcome in outcomes if isinstance(outcome, Posted)}
    return [
        outcome
        if isinstance(outcome, Rejected) or outcome.document.transaction_id not in given_up
        else Rejected(outcome.document, refusal)
        for outcome in outcomes
    ]
