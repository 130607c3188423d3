"""Whether the copies that other consumers keep say the same as the ledger: MongoDB's history, the lake's raw events.

They are written by consumers of Kafka and may be late, so what differs is a warning; so is a copy that cannot be read.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import JsonValue

from libs.events.failpoints import failpoint
from libs.events.topics import INVENTORY_EVENTS
from services.pipeline import documents
from services.pipeline.jobs.step import Context
from services.pipeline.lake import LakeTable, nearest_date

Difference = dict[str, JsonValue]


async def differences(context: Context, entries: Mapping[int, int], day: int, demand: pa.Table) -> list[Difference]:
    """Where copies differ from the ledger: in its entries per day, and in the 30 days' demand as of one day.

    `demand` has the columns sku, warehouse_id and demand_30 for the stock items that moved on that day.
    """
    failpoint("batch.copies.compared")
    first, last = nearest_date(min(entries)), nearest_date(max(entries))
    mongo_url = context.settings.mongo_url.get_secret_value()
    events = LakeTable(context.settings.lake_url, INVENTORY_EVENTS)
    checks: dict[str, Awaitable[list[Difference]]] = {
        "history-rows": _different_days(entries, documents.count_lines(mongo_url, first, last)),
        "event-rows": _different_days(entries, asyncio.to_thread(events.count_entries, first, last)),
        "metric-history": _different_demand(mongo_url, nearest_date(day), demand),
    }
    found: list[Difference] = []
    for check, comparison in checks.items():
        try:
            differing = await comparison
        except Exception as error:
            # Whatever went wrong, the answer says that this copy was not compared.
            differing = [{"unchecked": f"{type(error).__name__}: {error}"[:500]}]
        if differing:
            context.log("copy.differs", level="warning", check=check, differences=len(differing), first=differing[0])
        found += [{"check": check, **difference} for difference in differing]
    return found


async def _different_days(entries: Mapping[int, int], copy: Awaitable[Mapping[date, int]]) -> list[Difference]:
    """Days of which the copy holds another number of entries than the ledger."""
    rows_per_date = await copy
    rows = {day: rows_per_date.get(nearest_date(day), 0) for day in entries}
    return [
        {"date": str(nearest_date(day)), "rows": rows[day], "expected": count}
        for day, count in sorted(entries.items())
        if rows[day] != count
    ]


async def _different_demand(mongo_url: str, day: date, demand: pa.Table) -> list[Difference]:
    """How many stock items' demand the stream has calculated otherwise as of the day, if it has calculated it."""
    calculated = await documents.read_demand(mongo_url, day, demand.select(["sku", "warehouse_id"]))
    both = demand.join(calculated, ["sku", "warehouse_id"], join_type="inner", right_suffix="_of_stream")
    differing = both.filter(pc.field("demand_30") != pc.field("demand_30_of_stream")).num_rows
    return [{"date": str(day), "stockItems": differing, "compared": both.num_rows}] if differing else []
