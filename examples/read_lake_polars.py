"""Units sold per day, from the lake with Polars: `LAKE_URL=... python examples/read_lake_polars.py [VERSION]`.

VERSION is an old version of the table or an instant ("2026-03-02T12:00:00Z"), as long as the lake keeps it. A producer
may send an event twice, so events are made distinct by their id.
"""

import os
import sys

import polars as pl

argument = sys.argv[1] if len(sys.argv) > 1 else None
version = int(argument) if argument and argument.isdecimal() else argument
print(
    pl.scan_delta(f"{os.environ['LAKE_URL']}/inventory-events", version=version)
    .filter(pl.col("transactionType") == "SALE", pl.col("lineNo").is_not_null())
    .unique("eventId")
    .group_by("date")
    .agg((-pl.col("quantityChange").sum()).alias("unitsSold"))
    .sort("date")
    .collect()
)
