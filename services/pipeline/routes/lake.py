"""The lake."""

import asyncio
from dataclasses import asdict
from datetime import date

from fastapi import APIRouter, Request

from libs.chassis.model import ApiModel
from libs.chassis.paging import Page
from services.pipeline import lake
from services.pipeline.jobs.contract import IN_LAKE
from services.pipeline.lake import LakeTable, PartitionedTable
from services.pipeline.routes.access import Reader, check_warehouse

router = APIRouter(prefix="/api/v1/lake", tags=["lake"])


class DatasetOut(ApiModel):
    """A Delta table: of a topic, one row per event as Kafka holds it, repeats included; of `batch/`, what jobs keep."""

    name: str
    url: str
    version: int
    files: int
    rows: int
    size_bytes: int
    first_date: date | None
    last_date: date | None


@router.get("/datasets")
async def list_datasets(request: Request, principal: Reader) -> Page[DatasetOut]:
    """What lies in the lake: one table per topic that has events, and those that batch jobs have written."""
    check_warehouse(principal, None)
    lake_url = request.app.state.settings.lake_url
    kept = [PartitionedTable(lake_url, contract.dataset, contract.schema) for contract in IN_LAKE]
    tables: list[LakeTable | PartitionedTable] = [*lake.tables(lake_url), *kept]
    datasets = [await asyncio.to_thread(table.describe) for table in tables]
    return Page(items=[DatasetOut(**asdict(dataset)) for dataset in datasets if dataset], next_cursor=None)
