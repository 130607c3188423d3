"""Stockout risk: how likely demand takes more than what is left, before a delivery could arrive."""

from math import erfc, exp, log, sqrt

DISCRETE_BELOW = 10.0
"""Expected demand, in units, below which demand is counted unit by unit."""
_NEGLIGIBLE = 1e-12


def stockout_risk(position: int, mean_per_day: float, sd_per_day: float, days: float) -> float:
    """P(demand of `days` days > position), where days are independent.

    Normal with mean d P and standard deviation sigma sqrt(P); below 10 units of expected demand negative binomial with
    the same mean and variance, or Poisson when demand varies less than that.
    Source: Silver, Pyke & Thomas (2017), Inventory and Production Management in Supply Chains, ch. 6 and 9.
    """
    mean, variance = mean_per_day * days, sd_per_day * sd_per_day * days
    if mean >= DISCRETE_BELOW:
        return _normal_tail(position, mean, sqrt(variance))
    return _discrete_tail(position, mean, variance) if mean > 0 else 0.0


def days_of_supply(available: int, velocity_per_day: float) -> float | None:
    """How long what is available lasts; None when nothing is sold."""
    return available / velocity_per_day if velocity_per_day > 0 else None


def _normal_tail(position: int, mean: float, sd: float) -> float:
    if sd == 0:
        return float(mean > position)
    return erfc((position - mean) / (sd * sqrt(2))) / 2


def _discrete_tail(position: int, mean: float, variance: float) -> float:
    """1 - P(0) - ... - P(position), each P from the one before it."""
    ratio = variance / mean
    # Negative binomial with p = 1 / ratio and r = mean / (ratio - 1) failures; its limit for ratio -> 1 is Poisson.
    overdispersed = ratio > 1 + 1e-9
    failures = mean / (ratio - 1) if overdispersed else 0.0
    probability = exp(-failures * log(ratio)) if overdispersed else exp(-mean)
    tail = 1 - probability
    for units in range(position):
        growth = (units + failures) * (1 - 1 / ratio) if overdispersed else mean
        probability *= growth / (units + 1)
        tail -= probability
        if probability < _NEGLIGIBLE and units > mean:
            break
    return min(max(tail, 0.0), 1.0)
