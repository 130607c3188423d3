"""HTTP status and code of everything that the rules and the database refuse."""

from typing import Final

from libs.chassis.problems import ConstraintMap, RefusalMap
from services.inventory import refusal

REFUSALS: Final[RefusalMap] = {
    refusal.InsufficientStock: (409, "insufficient-stock"),
    refusal.StockInconsistent: (409, "stock-inconsistent"),
    refusal.QuantityOutOfRange: (422, "quantity-out-of-range"),
    refusal.WrongSign: (422, "wrong-sign"),
    refusal.WrongLine: (422, "wrong-line"),
    refusal.UnbalancedTransfer: (422, "unbalanced-transfer"),
    refusal.ReasonMissing: (422, "reason-missing"),
    refusal.OccurredInFuture: (422, "occurred-in-future"),
    refusal.CountConflict: (409, "count-conflict"),
    refusal.ReservedExceedsCount: (409, "reserved-exceeds-count"),
    refusal.UnknownProduct: (422, "unknown-product"),
    refusal.UnknownWarehouse: (422, "unknown-warehouse"),
    refusal.UnknownStockItem: (404, "not-found"),
    refusal.UnknownCategory: (422, "unknown-category"),
    refusal.Archived: (409, "archived"),
    refusal.StillInUse: (409, "still-in-use"),
    refusal.CategoryCircle: (409, "category-circle"),
    refusal.AlreadyExists: (409, "already-exists"),
    refusal.ReservationExpired: (410, "reservation-expired"),
    refusal.NotReserved: (409, "not-reserved"),
    refusal.UnknownReservation: (404, "not-found"),
    refusal.NotReversible: (409, "not-reversible"),
    refusal.AlreadyReversed: (409, "already-reversed"),
    refusal.UnknownTransaction: (404, "not-found"),
    refusal.UnknownRepair: (404, "not-found"),
    refusal.RepairOutdated: (409, "repair-outdated"),
    refusal.KeyReused: (422, "idempotency-key-reused"),
    refusal.UnreadableFile: (422, "unreadable-file"),
    refusal.BatchRejected: (409, "batch-rejected"),
}

CONSTRAINTS: Final[ConstraintMap] = {
    "product_category_known": (422, "unknown-category", "There is no such category."),
    "parent_category_known": (422, "unknown-category", "There is no such parent category."),
    "category_not_its_own_parent": (409, "category-circle", "A category does not lie below itself."),
    "occurred_not_in_future": (422, "occurred-in-future", "occurredAt lies more than 5 minutes ahead."),
    "on_hand_not_negative": (409, "stock-inconsistent", "The level does not agree with the ledger: repair it."),
    "reserved_not_negative": (409, "stock-inconsistent", "The level does not agree with its reservations: repair it."),
    "reserved_within_on_hand": (409, "stock-inconsistent", "More units would be reserved than are on hand."),
    "balance_continues": (409, "stock-inconsistent", "The level does not agree with the ledger: repair it."),
    "ledger_entry_pkey": (409, "stock-inconsistent", "The level does not agree with the ledger: repair it."),
    "repair_undone_once": (409, "already-undone", "The repair is undone already."),
    "reversed_once": (409, "already-reversed", "The transaction is reversed already."),
}
