"""Trend: where the daily demand of a stock item goes, by ordinary least squares over its last days.

With n days numbered 0..n-1, Sxx = n sum(d^2) - (sum d)^2 and Sxy, Syy alike (all exact integers):
slope = Sxy / Sxx, t = Sxy sqrt(n - 2) / sqrt(Sxx Syy - Sxy^2); without residual there is no t, and the slope counts.
Source: Draper & Smith (1998), Applied Regression Analysis, chapter 1.
"""

TREND_DAYS = 30
CRITICAL_T = 2.048407141795244
"""Student's t, 28 degrees of freedom, two-sided 5 %: a steeper slope is hardly chance."""
