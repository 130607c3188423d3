"""Stockout risk against what probability theory says."""

from math import comb, erfc, exp, factorial, log, sqrt

import numpy as np
import pytest

from services.pipeline.stockout import days_of_supply, stockout_risks


def stockout_risk(position: int, mean_per_day: float, sd_per_day: float, days: float) -> float:
    """That of one stock item."""
    left, mean, sd = (np.array([figure], np.float64) for figure in (position, mean_per_day, sd_per_day))
    return float(stockout_risks(left, mean, sd, days)[0])


def plain_risk(position: int, mean_per_day: float, sd_per_day: float, days: float) -> float:
    """As it is defined, every probability up to the position summed."""
    mean, variance = mean_per_day * days, sd_per_day * sd_per_day * days
    if mean <= 0 or position < 0:
        return float(mean > 0)
    if mean >= 10:
        return erfc((position - mean) / sqrt(2 * variance)) / 2 if variance else float(mean > position)
    ratio = variance / mean
    if ratio > 1 + 1e-9:
        failures = mean / (ratio - 1)
        probability, slope = exp(-failures * log(ratio)), 1 - 1 / ratio
        intercept = failures * slope
    else:
        probability, slope, intercept = exp(-mean), 0.0, mean
    tail = 1 - probability
    for units in range(position):
        probability *= (intercept + slope * units) / (units + 1)
        tail -= probability
    return min(max(tail, 0.0), 1.0)


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


@pytest.mark.parametrize("sold_per_day", [0.1, 10])
def test_who_owes_units_already_is_short_for_certain(sold_per_day: float) -> None:
    assert stockout_risk(-1, sold_per_day, 4, 8) == 1


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


def test_many_at_once_are_as_defined() -> None:
    random = np.random.default_rng(7)
    size = 5_000
    position = random.integers(-5, 300, size).astype(float)
    mean = np.where(random.random(size) < 0.1, 0, random.exponential(1.5, size) - 0.1)
    sd = np.where(random.random(size) < 0.1, 0, random.exponential(3, size))

    risks = stockout_risks(position, mean, sd, 8)

    expected = [plain_risk(int(p), m, s, 8) for p, m, s in zip(position, mean, sd, strict=True)]
    np.testing.assert_allclose(risks, expected, rtol=0, atol=1e-9)
    assert 500 < (mean * 8 < 10).sum() < 4_500


def test_what_one_comes_to_does_not_depend_on_the_others() -> None:
    random = np.random.default_rng(7)
    position, mean, sd = (
        random.integers(0, 99, 500).astype(float),
        random.exponential(0.5, 500),
        random.exponential(9, 500),
    )

    together = stockout_risks(position, mean, sd, 8)

    rows = [slice(row, row + 1) for row in range(500)]
    alone = [stockout_risks(position[row], mean[row], sd[row], 8)[0] for row in rows]
    assert together.tolist() == alone


@pytest.mark.parametrize("size", [0, 1, 40])
def test_few_at_once_are_as_defined_too(size: int) -> None:
    position, mean, sd = np.full(size, 5_000.0), np.full(size, 1.0), np.full(size, 30.0)

    assert stockout_risks(position, mean, sd, 8) == pytest.approx([plain_risk(5_000, 1, 30, 8)] * size)
