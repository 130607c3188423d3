"""The reference answers of a real week, read through the APIs and the lake, although every process was killed once."""

import polars as pl
import pytest
from deltalake import DeltaTable

from deploy.local.services import PROCESSES
from deploy.local.stack import Stack
from tests.end_to_end.week import Week, reference


def test_every_process_was_killed_while_sales_were_posted(week: Week) -> None:
    assert week.killed_while_posting == [process.name for process in PROCESSES]


def test_every_row_was_posted(week: Week) -> None:
    assert week.outcome.complete
    assert sum(item["movements"] for item in week.answers.skus) == reference()["totals"]["movements"]


def test_the_stores_agree_with_the_ledger(week: Week) -> None:
    assert week.answers.reconciliation["differences"] == []
    assert week.answers.reconciliation["exact"]


def test_totals(week: Week) -> None:
    totals = reference()["totals"]

    assert week.answers.summary == {
        "asOf": reference()["as_of_date"],
        "movements": totals["movements"],
        "netUnitsSold": totals["net_units_sold"],
        "quantityChange": totals["sum_quantity_change"],
        "grossUnitsOut": totals["gross_outbound_units"],
        "grossUnitsIn": totals["gross_inbound_units"],
        "distinctReferences": totals["distinct_reference_ids"],
        "distinctSkus": totals["distinct_skus"],
        "distinctWarehouses": totals["distinct_warehouses"],
        "distinctStockItems": totals["distinct_sku_warehouse_pairs"],
        "daysWithMovements": totals["days_with_movements"],
        "firstTimestamp": totals["first_timestamp"],
        "lastTimestamp": totals["last_timestamp"],
    }


def test_every_day(week: Week) -> None:
    found = {day["date"]: (day["demand"], day["movements"]) for day in week.answers.days}

    assert found == {date: (day["net_units"], day["movements"]) for date, day in reference()["per_day"].items()}


def test_the_value_of_the_week(week: Week) -> None:
    # Negative: value is that of the quantity change, and what was sold went out.
    value = sum(float(day["value"]) for day in week.answers.days)

    assert value == pytest.approx(-reference()["totals"]["net_value"], abs=0.001)


def test_the_top_20_skus(week: Week) -> None:
    found = [
        (
            mover["rank"],
            mover["sku"],
            mover["netUnits"],
            mover["grossUnitsOut"],
            mover["grossUnitsIn"],
            mover["movements"],
        )
        for mover in week.answers.top_movers
    ]

    assert found == [
        (
            sku["rank"],
            sku["sku"],
            sku["net_units"],
            sku["gross_outbound_units"],
            sku["gross_inbound_units"],
            sku["movements"],
        )
        for sku in reference()["top20_skus_by_net_units"]
    ]


@pytest.mark.parametrize("days", [7, 30, 90])
def test_the_velocity_of_the_top_20_skus(week: Week, days: int) -> None:
    found = {
        sku: (windows[days]["demand"], round(windows[days]["velocityPerDay"], 6))
        for sku, windows in week.answers.velocities.items()
    }

    expected = {sku["sku"]: sku["velocity"][f"{days}d"] for sku in reference()["top20_skus_by_net_units"]}
    assert found == {sku: (window["net_units"], window["units_per_day"]) for sku, window in expected.items()}


def test_the_top_10_warehouses(week: Week) -> None:
    ranked = sorted(week.answers.warehouses, key=lambda item: (-item["demand"], item["warehouseId"].encode()))[:10]

    assert [(item["warehouseId"], item["demand"], item["movements"]) for item in ranked] == [
        (item["warehouse"], item["net_units"], item["movements"])
        for item in reference()["top10_warehouses_by_net_units"]
    ]


def test_the_top_10_skus_of_every_warehouse(week: Week) -> None:
    found = {
        warehouse: [[mover["sku"], mover["netUnits"]] for mover in movers]
        for warehouse, movers in week.top_by_warehouse.items()
    }

    assert found == reference()["top10_skus_per_warehouse"]


def test_what_is_left_is_what_came_back(week: Week) -> None:
    on_hand = sum(level["quantityOnHand"] for level in week.answers.stock_levels)

    assert on_hand == reference()["totals"]["gross_inbound_units"]


def test_something_is_recommended(week: Week) -> None:
    best = reference()["top20_skus_by_net_units"][0]["sku"]

    assert best in {item["sku"] for item in week.answers.recommendations}


def test_the_lake_holds_every_movement_once(week: Week, stack: Stack) -> None:
    events = _lake(stack).unique("eventId").filter(pl.col("eventType") == "INVENTORY_UPDATE")
    # Other tests have moved stock too, before the week.
    first_day = pl.lit(min(reference()["per_day"])).str.to_date()
    movements = events.filter(pl.col("transactionType") != "OPENING_BALANCE", pl.col("date") >= first_day)

    days = movements.group_by(pl.col("date").cast(pl.String)).agg(-pl.col("quantityChange").sum(), pl.len())
    assert {day: (units, count) for day, units, count in days.iter_rows()} == {
        date: (day["net_units"], day["movements"]) for date, day in reference()["per_day"].items()
    }


def _lake(stack: Stack) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(DeltaTable(f"{stack.env['LAKE_URL']}/inventory-events").to_pyarrow_table()))
