"""What does not fit into the memory that the engine may take is spilled, and the rows stay the same."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from services.pipeline.jobs import transformation
from services.pipeline.jobs.engine import open_engine
from tests.pipeline.batch.test_transformation import FIRST, METRICS

ROWS, ITEMS, DAYS = 200_000, 4_000, 100


@pytest.fixture(scope="module")
def entries() -> pa.Table:
    """Many sales of many stock items."""
    random = np.random.default_rng(3)
    items = random.integers(0, ITEMS, ROWS)
    return pa.table(
        {
            "sku": [f"SKU-{item:06}" for item in items],
            "warehouse_id": [f"W{item % 5}" for item in items],
            "transaction_type": ["SALE"] * ROWS,
            "quantity_change": pa.array(-random.integers(1, 9, ROWS), pa.int64()),
            "day": pa.array(FIRST + random.integers(0, DAYS, ROWS), pa.int32()),
        }
    )


def calculated(entries: pa.Table, memory_limit: str, spill_folder: Path) -> tuple[pa.Table, bool]:
    """The metrics of some dates, and whether the engine has spilled."""
    with open_engine("duckdb", memory_limit=memory_limit, spill_folder=str(spill_folder)) as engine:
        days = transformation.item_days(engine.table(entries))
        stock = transformation.snapshots(days, engine.days(range(FIRST + DAYS - 40, FIRST + DAYS)))
        rows = engine.rows(transformation.metrics(days, stock), METRICS).read_all()
        spilled = any(spill_folder.glob("*/spill"))
    return rows.sort_by([(name, "ascending") for name in ("sku", "warehouse_id", "day")]), spilled


def test_a_small_memory_spills_and_gives_the_same_rows(entries: pa.Table, tmp_path: Path) -> None:
    in_memory, spilled_in_memory = calculated(entries, "1GiB", tmp_path)
    bounded, spilled = calculated(entries, "48MiB", tmp_path)

    assert (spilled_in_memory, spilled) == (False, True)
    assert bounded.num_rows == 40 * ITEMS
    assert bounded.equals(in_memory)
    assert list(tmp_path.iterdir()) == []
