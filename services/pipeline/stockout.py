"""Stockout risk: how likely demand takes more than what is left, before a delivery could arrive."""

from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

DISCRETE_BELOW = 10.0
"""Expected demand, in units, below which demand is counted unit by unit."""
_NEGLIGIBLE = 1e-12
_FEW = 16
"""So many rows are calculated faster one by one."""


def stockout_risks(position: Numbers, mean_per_day: Numbers, sd_per_day: Numbers, days: float) -> Numbers:
    """P(demand of `days` days > position) of each stock item, where days are independent.

    Normal with mean d P and standard deviation sigma sqrt(P); below 10 units of expected demand negative binomial with
    the same mean and variance, or Poisson when demand varies less than that. Who owes units already, and sells, is
    short for certain.
    Source: Silver, Pyke & Thomas (2017), Inventory and Production Management in Supply Chains, ch. 6 and 9.
    """
    mean, variance = mean_per_day * days, sd_per_day * sd_per_day * days
    risks = np.zeros(len(position))
    risks[(position < 0) & (mean > 0)] = 1
    is_normal = (position >= 0) & (mean >= DISCRETE_BELOW)
    is_discrete = (position >= 0) & (mean > 0) & (mean < DISCRETE_BELOW)
    rows = (each[is_normal].tolist() for each in (position, mean, np.sqrt(variance)))
    risks[is_normal] = list(map(_normal_tail, *rows))
    risks[is_discrete] = _discrete_tails(position[is_discrete], mean[is_discrete], variance[is_discrete])
    return risks


def days_of_supply(available: int, velocity_per_day: float) -> float | None:
    """How long what is available lasts; None when nothing is sold."""
    return available / velocity_per_day if velocity_per_day > 0 else None


def _normal_tail(position: float, mean: float, sd: float) -> float:
    if sd == 0:
        return float(mean > position)
    return erfc((position - mean) / (sd * sqrt(2))) / 2


def _rest_of_tail(
    tail: float, probability: float, units: int, position: float, mean: float, intercept: float, slope: float
) -> float:
    """The tail without P(units + 1) ... P(position); `probability` is P(units).

    P(n + 1) = P(n) x (intercept + slope x n) / (n + 1).
    """
    while units < position and (probability >= _NEGLIGIBLE or units - 1 <= mean):
        probability *= (intercept + slope * units) / (units + 1)
        tail -= probability
        units += 1
    return tail


def _discrete_tails(position: Numbers, mean: Numbers, variance: Numbers) -> Numbers:
    """1 - P(0) - ... - P(position), each P from the one before it: one unit more at a time for all rows not done.

    What a row comes to does not depend on the others. Negative binomial with p = 1 / ratio and r = mean / (ratio - 1)
    failures; its limit for ratio -> 1 is Poisson.
    """
    ratio = variance / mean
    overdispersed = ratio > 1 + 1e-9
    ratio = np.where(overdispersed, ratio, 2)
    failures = mean / (ratio - 1)
    none = np.where(overdispersed, np.exp(-failures * np.log(ratio)), np.exp(-mean))
    slope = np.where(overdispersed, 1 - 1 / ratio, 0)
    intercept = np.where(overdispersed, failures * slope, mean)
    tails: Numbers = 1 - none
    left = np.flatnonzero(position > 0)
    probability, units = none[left], 0
    while len(left) > _FEW:
        probability = probability * ((intercept[left] + slope[left] * units) / (units + 1))
        tails[left] -= probability
        units += 1
        goes_on = (units < position[left]) & ((probability >= _NEGLIGIBLE) | (units - 1 <= mean[left]))
        left, probability = left[goes_on], probability[goes_on]
    columns = (tails, position, mean, intercept, slope)
    for place, row in enumerate(left.tolist()):
        tail, *others = (float(column[row]) for column in columns)
        tails[row] = _rest_of_tail(tail, float(probability[place]), units, *others)
    return np.minimum(np.maximum(tails, 0), 1)
