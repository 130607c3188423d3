"""Rules that a ledger entry must obey to be used: rows that break one are quarantined, and fail their date."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

Mask = Any
"""A boolean array: true where a row breaks the rule."""

FUTURE_MICROSECONDS: Final = 5 * 60 * 1_000_000
_NOTHING: Final = pa.scalar(0)
_POSITIVE: Final = pa.array(["RECEIPT", "RETURN", "OPENING_BALANCE"])
_NEGATIVE: Final = pa.array(["SALE", "WRITE_OFF"])
_KNOWN: Final = pa.array(
    ["RECEIPT", "SALE", "RETURN", "OPENING_BALANCE", "WRITE_OFF", "ADJUSTMENT", "TRANSFER", "COUNT"]
)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that broke rules, as it was."""

    day: int
    key: str
    rule_ids: list[str]
    payload: dict[str, Any]


def _is_blank(column: str) -> Callable[[pa.RecordBatch], Mask]:
    return lambda rows: pc.equal(pc.utf8_trim_whitespace(rows[column]), pa.scalar(""))


def _wrong_sign(rows: pa.RecordBatch) -> Mask:
    change: Any = rows["quantity_change"]
    kind: Any = rows["transaction_type"]
    return pc.or_(
        pc.and_(pc.is_in(kind, _POSITIVE), pc.less_equal(change, _NOTHING)),
        pc.and_(pc.is_in(kind, _NEGATIVE), pc.greater_equal(change, _NOTHING)),
    )


def _from_the_future(rows: pa.RecordBatch) -> Mask:
    ahead: Any = pc.subtract(rows["occurred_at"].cast(pa.int64()), rows["recorded_at"].cast(pa.int64()))
    return pc.greater(ahead, pa.scalar(FUTURE_MICROSECONDS))


RULES: Final[Mapping[str, Callable[[pa.RecordBatch], Mask]]] = {
    "sku-blank": _is_blank("sku"),
    "warehouse-blank": _is_blank("warehouse_id"),
    "type-unknown": lambda rows: pc.invert(pc.is_in(rows["transaction_type"], _KNOWN)),
    "sign-wrong": _wrong_sign,
    "balance-negative": lambda rows: pc.less(rows["quantity_after"], _NOTHING),
    "occurred-in-future": _from_the_future,
}
"""Rule id -> which rows break it. Columns: those of the contract `ledger_entries`."""


def split(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, list[BadRow]]:
    """The rows that obey every rule, and the others with what they broke."""
    broken = {rule_id: breaks(rows) for rule_id, breaks in RULES.items()}
    is_bad: Any = pa.array([False] * rows.num_rows)
    for mask in broken.values():
        is_bad = pc.or_(is_bad, mask)
    if not pc.any(is_bad).as_py():
        return rows, []
    places = [place for place, bad in enumerate(is_bad.to_pylist()) if bad]
    return rows.filter(pc.invert(is_bad)), [
        BadRow(
            day=payload["day"],
            key=f"{payload['warehouse_id']}:{payload['sku']}:{payload['sequence']}",
            rule_ids=[rule_id for rule_id, mask in broken.items() if mask[place].as_py()],
            payload=payload,
        )
        for place in places
        for payload in rows.slice(place, 1).to_pylist()
    ]
