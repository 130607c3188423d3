"""The transformations calculate what the definitions say, for any movements."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.pipeline.jobs import contract, transformation
from services.pipeline.jobs.engine import Engine, open_engine
from services.pipeline.velocity import DEMAND_TYPES, WINDOWS_DAYS
from tests.pipeline import definitions

FIRST = date(2026, 1, 1).toordinal() - date(1970, 1, 1).toordinal()
TYPES = {"SALE": -1, "RETURN": 1, "RECEIPT": 1, "WRITE_OFF": -1, "OPENING_BALANCE": 1}
SCALE_OF_DECIMALS = pa.decimal128(38, 0)
METRICS = pa.schema(
    [each for each in contract.DAILY_METRIC.schema if each.name not in ("stockout_risk", "abc_class", "xyz_class")]
    + [pa.field("quantity_on_hand", pa.int64())]
)
CLASSES = [contract.DAILY_METRIC.schema.field(name) for name in ("abc_class", "xyz_class")]
SNAPSHOTS = pa.schema(list(contract.DAILY_SNAPSHOT.schema)[:6])

# stock item, days after the first, type, units
entries = st.lists(
    st.tuples(
        st.sampled_from([("A", "X"), ("A", "Y"), ("B", "X")]),
        st.integers(0, 130),
        st.sampled_from(sorted(TYPES)),
        st.integers(1, 10**6),
    ),
    min_size=1,
    max_size=60,
)
Entries = list[tuple[tuple[str, str], int, str, int]]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The default engine."""
    with open_engine("duckdb", memory_limit="256MiB", spill_folder=None) as engine:
        yield engine


def ledger(moves: Entries) -> pa.Table:
    """Ledger entries, with the columns that the transformations read."""
    return pa.table(
        {
            "sku": [item[0] for item, *_ in moves],
            "warehouse_id": [item[1] for item, *_ in moves],
            "transaction_type": [kind for _, _, kind, _ in moves],
            "quantity_change": pa.array([TYPES[kind] * units for *_, kind, units in moves], pa.int64()),
            "unit_cost_micros": pa.array([2_500_000 for _ in moves], pa.int64()),
            "unit_price_micros": pa.array([10_000_001 for _ in moves], pa.int64()),
            "hour": pa.array([(FIRST + after) * 24 + 5 for _, after, *_ in moves], pa.int32()),
            "day": pa.array([FIRST + after for _, after, *_ in moves], pa.int32()),
        }
    )


def versions(columns: dict[str, list[Any]]) -> pa.Table:
    """What has been the same for ever."""
    [rows, *_] = map(len, columns.values())
    since, until = pa.array([-(2**63)] * rows, pa.int64()), pa.array([2**63 - 1] * rows, pa.int64())
    return pa.table({**columns, "valid_from": since, "valid_to": until})


def days_of(engine: Engine, *days: int) -> Any:
    return engine.table(pa.table({"day": pa.array(days, pa.int32())}))


@settings(deadline=None, max_examples=8)
@given(entries)
def test_metrics_are_those_of_the_definitions_to_the_last_bit(engine: Engine, moves: Entries) -> None:
    days = transformation.item_days(engine.table(ledger(moves)))
    stock = transformation.snapshots(days, days_of(engine, FIRST + 60, FIRST + 131))

    rows = engine.rows(transformation.metrics(days, stock), METRICS).read_all().to_pylist()

    demand: dict[tuple[str, str], dict[date, int]] = defaultdict(lambda: defaultdict(int))
    moved_on = defaultdict(set)
    for item, after, kind, units in moves:
        moved_on[item].add(after)
        if kind in DEMAND_TYPES:
            demand[item][date(2026, 1, 1) + timedelta(after)] -= TYPES[kind] * units
    assert {(row["sku"], row["warehouse_id"], row["day"] - FIRST) for row in rows} == {
        (*item, day) for item, moved in moved_on.items() for day in (60, 131) if min(moved) <= day
    }
    for row in rows:
        as_of = date(1970, 1, 1) + timedelta(row["day"])
        series = demand[row["sku"], row["warehouse_id"]]
        for window in WINDOWS_DAYS:
            expected = definitions.velocity(definitions.daily_series(series, as_of, window))
            found = (row[f"demand_{window}"], row[f"velocity_{window}"], row[f"sd_daily_{window}"])
            assert found == (expected.demand, expected.per_day, expected.sd_daily)
        assert (
            definitions.Trend(row["change_ratio_30d"], row["slope_per_day"], row["t_statistic"], row["direction"])
        ) == definitions.trend(definitions.daily_series(series, as_of, 60))


@settings(deadline=None, max_examples=8)
@given(entries)
def test_turnover_is_that_of_the_daily_stock(engine: Engine, moves: Entries) -> None:
    days = transformation.item_days(engine.table(ledger(moves)))
    stock = transformation.snapshots(days, days_of(engine, FIRST + 131))

    rows = engine.rows(transformation.metrics(days, stock), METRICS).read_all().to_pylist()

    for row in rows:
        own = [move for move in moves if move[0] == (row["sku"], row["warehouse_id"])]
        daily_stock = [sum(TYPES[k] * u for _, after, k, u in own if after <= day) for day in range(132)]
        assert row["quantity_on_hand"] == daily_stock[-1]
        for window in (30, 90):
            mean = sum(daily_stock[-window:]) / window
            expected = None if mean <= 0 else row[f"demand_{window}"] / mean * 365 / window
            assert row[f"turnover_{window}"] == pytest.approx(expected)
        per_day = row["velocity_30"]
        assert row["days_of_supply"] == (pytest.approx(daily_stock[-1] / per_day) if per_day > 0 else None)


@settings(deadline=None, max_examples=8)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from("XY"),
            st.sampled_from([-5, 0, 1, 5, 10, 15, 80, 2**40]),
            st.sampled_from([None, 0, 1_000_000, 2_500_000]),
            st.sampled_from([0.0, 0.5, 1.0, 1.5]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_classes_are_those_of_the_definitions(
    engine: Engine, items: list[tuple[int, str, int, int | None, float]]
) -> None:
    figures: list[dict[str, Any]] = [
        {
            "sku": f"S{number}",
            "warehouse_id": warehouse_id,
            "day": FIRST + day,
            "demand_90": demand,
            "velocity_90": demand / 90,
            "sd_daily_90": abs(demand) / 90 * cv,
        }
        for number, (day, warehouse_id, demand, _, cv) in enumerate(items)
    ]
    types = pa.schema(contract.DAILY_METRIC.schema.field(name) for name in figures[0])
    costs = {row["sku"]: cost for row, (*_, cost, _) in zip(figures, items, strict=True)}
    products = versions({"sku": list(costs), "unit_cost_micros": [*costs.values()]})
    products = products.set_column(1, "unit_cost_micros", products["unit_cost_micros"].cast(pa.int64()))

    classified = transformation.classified(engine.table(pa.Table.from_pylist(figures, types)), engine.table(products))
    found = engine.rows(classified, pa.schema([*types, *CLASSES])).read_all().to_pylist()

    expected = abc_classes(figures, costs)
    assert len(found) == len(figures)
    for row, (*_, cv) in zip(sorted(found, key=lambda row: int(row["sku"][1:])), items, strict=True):
        assert row["abc_class"] == expected[row["sku"]]
        assert row["xyz_class"] == ({0.0: "X", 0.5: "X", 1.0: "Y", 1.5: "Z"}[cv] if row["demand_90"] > 0 else None)


def abc_classes(figures: list[dict[str, Any]], costs: dict[str, int | None]) -> dict[str, str | None]:
    """Sku -> class, where each sku is in one warehouse and day only."""
    classes: dict[str, str | None] = {}
    for group in {(row["warehouse_id"], row["day"]) for row in figures}:
        own = [row for row in figures if (row["warehouse_id"], row["day"]) == group]
        classes |= {row["sku"]: "C" if row["demand_90"] <= 0 else None for row in own}
        values = {row["sku"]: row["demand_90"] * cost for row in own if (cost := costs[row["sku"]]) is not None}
        sold = {sku: value for sku, value in values.items() if value > 0}
        classes |= {sku: "C" for sku, value in values.items() if value == 0}
        so_far = 0
        for sku in sorted(sold, key=lambda sku: (-sold[sku], sku)):
            so_far += sold[sku]
            share = Fraction(so_far, sum(sold.values()))
            classes[sku] = "A" if share <= Fraction(80, 100) else "B" if share <= Fraction(95, 100) else "C"
    return classes


def test_a_snapshot_holds_every_item_that_ever_moved(engine: Engine) -> None:
    moves = [(("A", "X"), 0, "RECEIPT", 9), (("A", "X"), 2, "SALE", 4), (("B", "X"), 2, "RECEIPT", 1)]
    days = transformation.item_days(engine.table(ledger(moves)))

    stock = engine.rows(transformation.snapshots(days, days_of(engine, FIRST + 1, FIRST + 2)), SNAPSHOTS).read_all()

    found = {tuple(row.values()) for row in stock.to_pylist()}
    assert found == {
        ("A", "X", FIRST + 1, 9, 0, 0),
        ("A", "X", FIRST + 2, 5, 0, 4),
        ("B", "X", FIRST + 2, 1, 1, 0),
    }


def test_weeks_begin_on_monday_and_money_is_exact(engine: Engine) -> None:
    # 2026-01-01 is a Thursday; the 4th a Sunday, the 5th a Monday.
    moves = [(("A", "X"), 3, "SALE", 3), (("A", "Y"), 4, "SALE", 2), (("B", "X"), 4, "OPENING_BALANCE", 7)]
    products = engine.table(versions({"sku": ["A"], "category_id": ["toys"]}))
    schema = pa.schema([field for field in contract.MOVEMENT_AGGREGATE.schema if field.name != "day"])

    weeks = transformation.aggregates(engine.table(ledger(moves)), products, "week")
    rows = engine.rows(weeks, schema).read_all().to_pylist()

    def bucket(row: dict[str, Any]) -> tuple[Any, ...]:
        return (row["bucket_hour"] // 24 - FIRST, row["dimension"], row["key"])

    assert {bucket(row): (row["units_out"], int(row["value_micros"])) for row in rows} == {
        (-3, "sku", "A"): (3, -30_000_003),
        (-3, "warehouse", "X"): (3, -30_000_003),
        (-3, "category", "toys"): (3, -30_000_003),
        (4, "sku", "A"): (2, -20_000_002),
        (4, "warehouse", "Y"): (2, -20_000_002),
        (4, "category", "toys"): (2, -20_000_002),
    }
