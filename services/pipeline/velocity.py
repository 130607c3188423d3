"""Velocity: how many units of a stock item are demanded per day.

Demand of a day = units out minus units in by SALE and RETURN, per stock item and UTC day; other movements are no
demand. These functions are the definition; `metric_queries.py` calculates the same for many stock items in SQL.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt

DEMAND_TYPES = ("SALE", "RETURN")
WINDOWS_DAYS = (7, 30, 90)


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
