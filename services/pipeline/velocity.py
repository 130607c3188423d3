"""Velocity: how many units of a stock item are demanded per day.

Demand of a day = units out minus units in by SALE and RETURN, per stock item and UTC day; other movements are no
demand. Velocity is the mean over a window of whole days up to and with a date; a day without movements counts as 0.
"""

DEMAND_TYPES = ("SALE", "RETURN")
WINDOWS_DAYS = (7, 30, 90)
