"""Velocity and trend of one daily series in plain Python: what SQL and the batch engines must calculate alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt

from libs.events.analytics import TrendDirection
from services.pipeline.trend import CRITICAL_T, TREND_DAYS


@dataclass(frozen=True, slots=True)
class Velocity:
    """Demand of one window of whole UTC days."""

    days: int
    demand: int
    per_day: float
    sd_daily: float
    """Sample standard deviation of one day's demand, divisor days - 1."""


def daily_series(demand: Mapping[date, int], as_of: date, days: int) -> list[int]:
    """Demand of the last `days` days up to and with `as_of`, oldest first; a day without movements is 0."""
    return [demand.get(as_of - timedelta(days=age), 0) for age in reversed(range(days))]


def velocity(series: Sequence[int]) -> Velocity:
    """Velocity of a daily series of at least two days."""
    days, demand = len(series), sum(series)
    squares = sum(units * units for units in series)
    return Velocity(days, demand, demand / days, sqrt((days * squares - demand * demand) / (days * (days - 1))))


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
