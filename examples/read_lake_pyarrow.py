"""Units sold per day, from the lake with pyarrow: `LAKE_URL=... python examples/read_lake_pyarrow.py`.

Only the columns that are asked for are read. A producer may send an event twice, so events are made distinct by their
id: repeats are alike, and any of them will do.
"""

import os

import pyarrow.compute as pc
from deltalake import DeltaTable
from pyarrow.fs import FileSystem, SubTreeFileSystem

table = DeltaTable(f"{os.environ['LAKE_URL']}/inventory-events")
# Arrow's own file system: deltalake's is written in Python, and its threads may outlive the interpreter.
filesystem, path = FileSystem.from_uri(table.table_uri)
is_sale = (pc.field("transactionType") == "SALE") & ~pc.field("lineNo").is_null()
events = table.to_pyarrow_dataset(filesystem=SubTreeFileSystem(path, filesystem)).to_table(
    columns=["eventId", "date", "quantityChange"], filter=is_sale
)
once = events.group_by("eventId").aggregate([("date", "min"), ("quantityChange", "min")])
sold = once.group_by("date_min").aggregate([("quantityChange_min", "sum")]).sort_by("date_min")
for row in sold.to_pylist():
    print(row["date_min"], -row["quantityChange_min_sum"])
