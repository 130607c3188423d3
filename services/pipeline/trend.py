"""Trend: where the daily demand of a stock item goes.

These functions are the definition; `metric_queries.py` calculates the same for many stock items in SQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from libs.events.analytics import TrendDirection

TREND_DAYS = 30
CRITICAL_T = 2.048407141795244
"""Student's t, 28 degrees of freedom, two-sided 5 %: a steeper slope is hardly chance."""


@dataclass(frozen=True, slots=True)
class Trend:
    """Trend over the last 30 days."""

    change_ratio_30d: float | None
    slope_per_day: float
    t_statistic: float | None
    """None when every day lies on the line, so that the slope has no error."""
    direction: TrendDirection


def change_ratio(last: int, before: int) -> float | None:
    """(last 30 days - the 30 days before) / the 30 days before; None when those had no net demand."""
    return (last - before) / before if before else None


def trend(series: Sequence[int]) -> Trend:
    """Trend of 60 daily values, oldest first: ordinary least squares over the last 30.

    With n days numbered 0..n-1, Sxx = n sum(d^2) - (sum d)^2 and Sxy, Syy alike (all exact integers):
    slope = Sxy / Sxx, t = Sxy sqrt(n - 2) / sqrt(Sxx Syy - Sxy^2).
    Source: Draper & Smith (1998), Applied Regression Analysis, chapter 1.
    """
    if len(series) != 2 * TREND_DAYS:
        raise ValueError(f"a trend needs {2 * TREND_DAYS} daily values, not {len(series)}")
    before, last = series[:TREND_DAYS], series[TREND_DAYS:]
    sxx = TREND_DAYS * sum(day * day for day in range(TREND_DAYS)) - sum(range(TREND_DAYS)) ** 2
    sxy = TREND_DAYS * sum(day * units for day, units in enumerate(last)) - sum(range(TREND_DAYS)) * sum(last)
    syy = TREND_DAYS * sum(units * units for units in last) - sum(last) ** 2
    residual = sxx * syy - sxy * sxy
    t_statistic = sxy * sqrt(TREND_DAYS - 2) / sqrt(residual) if residual else None
    return Trend(change_ratio(sum(last), sum(before)), sxy / sxx, t_statistic, _direction(sxy, t_statistic))


def _direction(sxy: int, t_statistic: float | None) -> TrendDirection:
    if sxy == 0 or (t_statistic is not None and abs(t_statistic) < CRITICAL_T):
        return TrendDirection.FLAT
    return TrendDirection.UP if sxy > 0 else TrendDirection.DOWN
