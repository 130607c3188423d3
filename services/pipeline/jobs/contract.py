"""Data contracts: what readers of a dataset may rely on. A batch of rows that breaks one is never written."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from libs.events.analytics import TrendDirection
from libs.events.inventory import TransactionType


class ContractBroken(Exception):
    """Rows are not what the dataset promises."""


@dataclass(frozen=True, slots=True)
class Contract:
    """The columns of a dataset with their types, which of them are never null, and which values they have.

    No number is NaN.
    """

    dataset: str
    schema: pa.Schema
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Column -> least and largest value, both allowed."""
    choices: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Column -> all values that it may have."""

    def checked(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The same rows. Raises ContractBroken."""
        if batch.schema.names != self.schema.names or batch.schema.types != self.schema.types:
            raise ContractBroken(f"{self.dataset}: columns {batch.schema} instead of {self.schema}")
        for name in self.schema.names:
            if not self.schema.field(name).nullable and batch[name].null_count:
                raise ContractBroken(f"{self.dataset}: {batch[name].null_count} rows without {name}")
            if pa.types.is_floating(self.schema.field(name).type) and pc.any(pc.is_nan(batch[name])).as_py():
                raise ContractBroken(f"{self.dataset}: {name} of NaN")
        for name, (least, most) in self.bounds.items():
            smallest, largest = pc.min(batch[name]).as_py(), pc.max(batch[name]).as_py()
            if smallest is not None and not least <= smallest <= largest <= most:
                raise ContractBroken(f"{self.dataset}: {name} of {smallest} to {largest}, not of {least} to {most}")
        for name, allowed in self.choices.items():
            if strange := sorted(map(str, set(pc.unique(batch[name]).to_pylist()) - {*allowed, None})):
                raise ContractBroken(f"{self.dataset}: {name} of {strange[:5]}, not of {sorted(allowed)}")
        return batch


def _required(name: str, kind: pa.DataType) -> "pa.Field[Any]":
    return pa.field(name, kind, nullable=False)


_STOCK_ITEM: Final = [_required("sku", pa.string()), _required("warehouse_id", pa.string())]
_DAY: Final = _required("day", pa.int32())
_MICROS: Final = pa.decimal128(38, 0)
_ANY_COUNT: Final = (0, float("inf"))

LEDGER_ENTRIES: Final = Contract(
    "ledger_entries",
    pa.schema(
        [
            *_STOCK_ITEM,
            _required("sequence", pa.int64()),
            _required("transaction_id", pa.string()),
            _required("transaction_type", pa.string()),
            _required("line_no", pa.int32()),
            _required("quantity_change", pa.int64()),
            _required("quantity_after", pa.int64()),
            pa.field("unit_cost_micros", pa.int64()),
            pa.field("unit_price_micros", pa.int64()),
            pa.field("reference_id", pa.string()),
            _required("occurred_at", pa.timestamp("us", "UTC")),
            _required("recorded_at", pa.timestamp("us", "UTC")),
            _required("hour", pa.int32()),
            _DAY,
        ]
    ),
    {
        "sequence": (1, float("inf")),
        "quantity_after": _ANY_COUNT,
    },
    {"transaction_type": list(TransactionType)},
)
"""The ledger as extracted, without quarantined rows; money in millionths, hour and day counted since 1970 in UTC."""

ITEM_DAYS: Final = Contract(
    "item_days",
    pa.schema(
        [
            *_STOCK_ITEM,
            _DAY,
            *(_required(name, pa.int64()) for name in ("entries", "units_in", "units_out", "net_change", "demand")),
        ]
    ),
    {"entries": (1, float("inf")), "units_in": _ANY_COUNT, "units_out": _ANY_COUNT},
)
"""What moved, per stock item and day with movements."""

DAILY_SNAPSHOT: Final = Contract(
    "daily_snapshot",
    pa.schema(
        [
            *_STOCK_ITEM,
            _DAY,
            *(_required(name, pa.int64()) for name in ("quantity_on_hand", "units_in", "units_out")),
            *(
                pa.field(name, pa.string())
                for name in ("product_name", "category_id", "category_name", "warehouse_name")
            ),
            pa.field("stock_value_micros", _MICROS),
        ]
    ),
    {"units_in": _ANY_COUNT, "units_out": _ANY_COUNT},
)
"""Every stock item that ever moved, as it stood at the end of the day."""

DAILY_METRIC: Final = Contract(
    "daily_metric",
    pa.schema(
        [
            *_STOCK_ITEM,
            _DAY,
            *(_required(f"demand_{days}", pa.int64()) for days in (7, 30, 90)),
            *(_required(f"velocity_{days}", pa.float64()) for days in (7, 30, 90)),
            *(_required(f"sd_daily_{days}", pa.float64()) for days in (7, 30, 90)),
            pa.field("change_ratio_30d", pa.float64()),
            _required("slope_per_day", pa.float64()),
            pa.field("t_statistic", pa.float64()),
            _required("direction", pa.string()),
            pa.field("turnover_30", pa.float64()),
            pa.field("turnover_90", pa.float64()),
            pa.field("days_of_supply", pa.float64()),
            _required("stockout_risk", pa.float64()),
            pa.field("abc_class", pa.string()),
            pa.field("xyz_class", pa.string()),
        ]
    ),
    {"stockout_risk": (0, 1), **{f"sd_daily_{days}": _ANY_COUNT for days in (7, 30, 90)}},
    {"direction": list(TrendDirection)},
)
"""Velocity, trend, turnover, days of supply, stockout risk and ABC/XYZ class of every snapshot.

Days of supply and stockout risk are of what was on hand; those of alerts are of what is available. Reservations are no
ledger entries, so what was reserved at the end of a past day is not known.
"""

MOVEMENT_AGGREGATE: Final = Contract(
    "movement_aggregate",
    pa.schema(
        [
            _required("bucket_hour", pa.int32()),
            _required("key", pa.string()),
            *(_required(name, pa.int64()) for name in ("movements", "units_in", "units_out", "demand")),
            _required("value_micros", _MICROS),
            _required("dimension", pa.string()),
            _required("grain", pa.string()),
            _DAY,
        ]
    ),
    {"movements": (1, float("inf")), "units_in": _ANY_COUNT, "units_out": _ANY_COUNT},
    {"grain": ("hour", "day", "week"), "dimension": ("sku", "warehouse", "category")},
)
"""Movements per hour, day or week, and per sku, warehouse or category; `day` is that of the bucket's start."""

IN_LAKE: Final = (LEDGER_ENTRIES, ITEM_DAYS, DAILY_SNAPSHOT, DAILY_METRIC, MOVEMENT_AGGREGATE)
"""The datasets that lie in the lake."""
