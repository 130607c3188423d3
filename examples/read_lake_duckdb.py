"""Units sold per day, from the lake with DuckDB: `LAKE_URL=... python examples/read_lake_duckdb.py`.

The table is opened as Delta, not as a folder of Parquet files: files that compaction replaced are still there for a
while. A producer may send an event twice, so events are made distinct by their id.
"""

import os

import duckdb
from deltalake import DeltaTable

events = DeltaTable(f"{os.environ['LAKE_URL']}/inventory-events").to_pyarrow_dataset()
sold = duckdb.connect().execute(
    """
    SELECT date, sum(-"quantityChange")::bigint
      FROM (SELECT DISTINCT ON ("eventId") * FROM events WHERE "transactionType" = 'SALE' AND "lineNo" IS NOT NULL)
     GROUP BY date ORDER BY date
    """
)
for date, units in sold.fetchall():
    print(date, units)
