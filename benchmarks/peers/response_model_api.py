"""Stock levels from Postgres as most FastAPI services read them. Runs in our environment.

By the documentation of FastAPI, "Response Model - Return Type", and of asyncpg, "Connection Pools".
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from benchmarks.peers.sums import DATABASE_URL

pools: list[asyncpg.Pool] = []


class StockLevel(BaseModel):
    """What Stockflow answers, too."""

    sku: str
    warehouse_id: str
    quantity_on_hand: int
    quantity_reserved: int
    sequence: int
    revision: int
    reorder_point: int | None
    reorder_quantity: int | None


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Open the pool for as long as the application runs."""
    async with asyncpg.create_pool(DATABASE_URL, server_settings={"search_path": "inventory"}) as pool:
        pools.append(pool)
        yield


app = FastAPI(lifespan=lifespan)
_LEVEL = """
    SELECT sku, warehouse_id, quantity_on_hand, quantity_reserved, sequence, revision, reorder_point, reorder_quantity
      FROM stock_level
"""


@app.get("/stock-levels")
async def stock_levels(limit: int) -> list[StockLevel]:
    """The first page."""
    rows = await pools[0].fetch(f"{_LEVEL} ORDER BY sku, warehouse_id LIMIT $1", limit)
    return [StockLevel(**row) for row in rows]


@app.get("/stock-levels/{warehouse_id}/{sku}")
async def stock_level(warehouse_id: str, sku: str) -> StockLevel:
    """One level."""
    row = await pools[0].fetchrow(f"{_LEVEL} WHERE sku = $1 AND warehouse_id = $2", sku, warehouse_id)
    if row is None:
        raise HTTPException(404)
    return StockLevel(**row)


uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
