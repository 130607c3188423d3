"""Stockout risk against what probability theory says."""

from math import comb, exp, factorial

import pytest

from services.pipeline.stockout import days_of_supply, stockout_risk


def test_with_exactly_the_expected_demand_left_the_risk_is_one_half() -> None:
    assert stockout_risk(80, mean_per_day=10, sd_per_day=4, days=8) == pytest.approx(0.5)


def test_many_units_are_normal() -> None:
    # 1.6449 standard deviations above the mean is the 95 % quantile.
    sd = 4 * 8**0.5

    assert stockout_risk(round(800 + 1.6449 * sd * 10), 100, 40, 8) == pytest.approx(0.05, abs=0.001)


def test_few_units_of_even_demand_are_poisson() -> None:
    mean = 4.0
    tail = 1 - sum(exp(-mean) * mean**units / factorial(units) for units in range(7))

    assert stockout_risk(6, mean_per_day=0.5, sd_per_day=0.5**0.5, days=8) == pytest.approx(tail)


def test_few_units_of_uneven_demand_are_negative_binomial() -> None:
    # Mean 4 and variance 8: r = 4 failures, p = 1/2.
    tail = 1 - sum(comb(units + 3, units) * 0.5 ** (units + 4) for units in range(7))

    assert stockout_risk(6, mean_per_day=0.5, sd_per_day=1.0, days=8) == pytest.approx(tail)


@pytest.mark.parametrize(("position", "risk"), [(0, 1.0), (79, 1.0), (80, 0.0)])
def test_steady_demand_is_certain(position: int, risk: float) -> None:
    assert stockout_risk(position, mean_per_day=10, sd_per_day=0, days=8) == risk


def test_nothing_sold_is_no_risk() -> None:
    assert stockout_risk(0, 0, 0, 8) == 0
    assert stockout_risk(0, mean_per_day=-1, sd_per_day=2, days=8) == 0
    assert days_of_supply(5, 0) is None


def test_the_risk_falls_as_stock_rises_and_never_leaves_0_to_1() -> None:
    for sd in (0.1, 1.0, 30.0):
        risks = [stockout_risk(position, 1.2, sd, 8) for position in (0, 1, 5, 50, 5_000, 5_000_000)]
        assert risks == sorted(risks, reverse=True)
        assert all(0 <= risk <= 1 for risk in risks)
        assert risks[-1] < 1e-6
