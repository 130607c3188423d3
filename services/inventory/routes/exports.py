"""Exports of whole datasets."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from libs.chassis.database import Connection
from services.inventory import exports
from services.inventory.queries.datasets import DATASETS
from services.inventory.routes.access import Reader
from services.inventory.routes.bulk import Places, place
from services.inventory.routes.posting import DatabasePool
from services.inventory.table_files import Format

router = APIRouter(prefix="/api/v1/exports", tags=["exports"])
MEDIA_TYPES: dict[Format, str] = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {name: {"schema": {"type": "string", "format": "binary"}} for name in MEDIA_TYPES.values()}}
}


async def _snapshot(pool: DatabasePool, places: Places) -> AsyncIterator[Connection]:
    # Taken before the answer begins, when a busy database can still be told, and given back after its last byte.
    async with place(places), exports.snapshot(pool) as connection:
        yield connection


@router.get("/{dataset}", response_class=StreamingResponse, responses=FILE)
async def export_dataset(
    dataset: Literal["products", "stock-levels", "ledger-entries"],
    snapshot: Annotated[Connection, Depends(_snapshot)],
    principal: Reader,
    file_format: Annotated[Format, Query(alias="format")] = "csv",
) -> StreamingResponse:
    """A whole dataset as a file, all of it as it stands at one moment; of the key's warehouses if it is restricted.

    In CSV, text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    headers = {"Content-Disposition": f'attachment; filename="{dataset}.{file_format}"'}
    content = exports.stream(snapshot, DATASETS[dataset], file_format, principal.warehouses)
    return StreamingResponse(content, media_type=MEDIA_TYPES[file_format], headers=headers)
