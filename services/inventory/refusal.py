"""What the rules refuse. None of these knows of HTTP: `statuses.py` gives each its status and code."""

from collections.abc import Sequence
from typing import Any


class Refused(Exception):
    """A rule refuses what was asked; the text names the thing and the numbers.

    `errors` lists every fault as `{"pointer", "detail"}`, the pointer into the document that was sent.
    """

    def __init__(self, detail: str, errors: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(detail)
        self.errors = list(errors)


def fault(pointer: str, detail: str) -> dict[str, Any]:
    """One entry of `errors`."""
    return {"pointer": pointer, "detail": detail}


class InsufficientStock(Refused):
    """Fewer units are available than asked."""


class StockInconsistent(Refused):
    """A level does not agree with what it is derived from: it has to be repaired first."""


class QuantityOutOfRange(Refused):
    """The balance would not fit in 64 bits."""


class WrongSign(Refused):
    """A quantity change has a sign that its transaction type does not take, or is zero."""


class WrongLine(Refused):
    """A line holds a quantity of the wrong kind: a count takes countedQuantity, every other type quantityChange."""


class UnbalancedTransfer(Refused):
    """The lines of a transfer do not sum to zero for a sku."""


class ReasonMissing(Refused):
    """An adjustment does not say why."""


class OccurredInFuture(Refused):
    """The document claims to have happened later than now."""


class CountConflict(Refused):
    """The stock moved since it was counted: the expected quantity is not what is on hand."""


class ReservedExceedsCount(Refused):
    """Fewer units were counted than are promised to reservations."""


class UnknownProduct(Refused):
    """A line names a product that does not exist."""


class UnknownWarehouse(Refused):
    """A line names a warehouse that does not exist."""


class Archived(Refused):
    """A line names a product or warehouse that is archived, or something is put into an archived category."""


class KeyReused(Refused):
    """The id was used before for something else."""


class BatchRejected(Refused):
    """The document is valid, but another one of its batch is not."""


class AlreadyExists(Refused):
    """The key is taken by something that was created differently."""


class UnknownCategory(Refused):
    """There is no such category."""


class CategoryCircle(Refused):
    """A category would come to lie below itself."""


class StillInUse(Refused):
    """What should be archived still holds stock, or others still refer to it."""


class UnknownStockItem(Refused):
    """There is no such product or no such warehouse."""


class ReservationExpired(Refused):
    """The time of the reservation is up; its units are available to everybody again."""


class NotReserved(Refused):
    """More units are asked for than the reservation still holds."""


class UnknownReservation(Refused):
    """There is no such reservation."""


class NotReversible(Refused):
    """There is nothing to take back: the transaction is itself a reversal, or changed no quantity."""


class AlreadyReversed(Refused):
    """The transaction is reversed already."""


class UnknownTransaction(Refused):
    """There is no such transaction."""


class UnknownRepair(Refused):
    """There is no such stock repair."""


class RepairOutdated(Refused):
    """A level has changed since it was repaired; undoing the repair would lose that change."""


class UnreadableFile(Refused):
    """A file is not what it is said to be."""
