"""Rows that break a contract are refused."""

from typing import Any

import pyarrow as pa
import pytest

from services.pipeline.jobs.contract import DAILY_METRIC, ContractBroken


def a_metric(**values: Any) -> pa.RecordBatch:
    """A row that keeps the contract, but for these values."""
    row = {"direction": "FLAT", "stockout_risk": 0.5} | values
    usual = {pa.string(): "x", pa.int32(): 1, pa.int64(): 1, pa.float64(): 1.5}
    return pa.record_batch(
        [pa.array([row.get(column.name, usual[column.type])], column.type) for column in DAILY_METRIC.schema],
        schema=DAILY_METRIC.schema,
    )


def test_rows_that_keep_the_contract_pass() -> None:
    assert DAILY_METRIC.checked(a_metric()).num_rows == 1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("velocity_30", float("nan")),
        ("days_of_supply", float("nan")),
        ("stockout_risk", float("nan")),
        ("stockout_risk", 1.5),
        ("sd_daily_7", -1.0),
        ("direction", "SIDEWAYS"),
        ("sku", None),
    ],
)
def test_values_out_of_range_are_refused(column: str, value: Any) -> None:
    with pytest.raises(ContractBroken, match=column):
        DAILY_METRIC.checked(a_metric(**{column: value}))
