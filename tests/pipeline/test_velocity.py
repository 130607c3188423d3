"""The definitions of velocity and trend."""

from datetime import date, timedelta
from statistics import stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.events.analytics import TrendDirection
from tests.pipeline.definitions import change_ratio, daily_series, trend, velocity

TODAY = date(2011, 10, 9)
SERIES = st.lists(st.integers(-1000, 1000), min_size=60, max_size=60)


def test_days_without_movements_count_and_days_outside_the_window_do_not() -> None:
    demand = {TODAY: 5, TODAY - timedelta(days=6): 2, TODAY - timedelta(days=7): 100, TODAY + timedelta(days=1): 100}

    assert daily_series(demand, TODAY, 7) == [2, 0, 0, 0, 0, 0, 5]


def test_velocity_is_demand_per_day_with_the_sample_standard_deviation() -> None:
    series = [2, 0, 0, 0, 0, 0, 5]

    week = velocity(series)

    assert (week.days, week.demand, week.per_day) == (7, 7, 1.0)
    assert week.sd_daily == pytest.approx(stdev(series))


def test_change_ratio_is_undefined_without_demand_before() -> None:
    assert change_ratio(15, 10) == 0.5
    assert change_ratio(15, 0) is None


def test_a_perfect_line_has_a_direction_but_no_t_statistic() -> None:
    rising = trend([0] * 30 + list(range(30)))

    assert (rising.slope_per_day, rising.t_statistic, rising.direction) == (1.0, None, TrendDirection.UP)


def test_constant_demand_is_flat() -> None:
    assert trend([3] * 60).direction == TrendDirection.FLAT


def test_noise_around_a_level_is_flat_and_a_clear_fall_is_down() -> None:
    noise = trend([0] * 30 + [5, 6] * 15)
    fall = trend([0] * 30 + [100 - 3 * day + day % 2 for day in range(30)])

    assert noise.direction == TrendDirection.FLAT
    assert fall.direction == TrendDirection.DOWN


@given(SERIES)
def test_the_slope_is_numpys_least_squares_slope(series: list[int]) -> None:
    slope, _ = np.polyfit(range(30), series[30:], 1)

    assert trend(series).slope_per_day == pytest.approx(slope, abs=1e-6)
