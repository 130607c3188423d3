"""Imports of whole files."""

import asyncio
import errno
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from libs.chassis.problems import Problem, unavailable
from libs.chassis.replay import mark_replayed
from services.inventory import imports
from services.inventory.imports import Import
from services.inventory.routes.access import Operator, refusals
from services.inventory.routes.bulk import Places, place
from services.inventory.routes.posting import DatabasePool
from services.inventory.schemas.imports import ImportKind, ImportOut
from services.inventory.table_files import Format

PATH = "/api/v1/imports"
MOST_BYTES = 256 * 1024 * 1024
FORMATS: dict[str, Format] = {"text/csv": "csv", "application/vnd.apache.parquet": "parquet"}
BODY = {"required": True, "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in FORMATS}}

router = APIRouter(prefix=PATH, tags=["imports"], responses=refusals(409))


@router.post("", openapi_extra={"requestBody": BODY})
async def import_file(
    request: Request,
    pool: DatabasePool,
    places: Places,
    principal: Operator,
    response: Response,
    import_id: Annotated[UUID, Query(alias="importId", description="Chosen by the caller; sending it again is safe.")],
    kind: Annotated[ImportKind, Query(description="What the rows are.")],
    dry_run: Annotated[bool, Query(alias="dryRun", description="Only find out what would happen.")] = False,
) -> ImportOut:
    """Import a CSV or Parquet file: all of it, or nothing and the list of every faulty row.

    A dry run does the same and takes it back. The file may be of any length up to 256 MiB; columns are named as the
    fields of the resource.
    """
    if principal.warehouses is not None:
        raise Problem(403, "warehouse-forbidden", "A key that is restricted to warehouses may not import files.")
    file_format = _format(request)
    with TemporaryDirectory(prefix="stockflow-import-") as folder:
        path = Path(folder) / "file"
        asked = Import(import_id, kind, path, file_format, principal.name, dry_run)
        async with place(places):
            await _save(request, path)
            result = await imports.run(pool, asked)
    if result.replayed:
        mark_replayed(response)
    return ImportOut(
        kind=kind,
        dry_run=dry_run,
        applied=result.applied,
        rows=result.rows,
        unchanged=result.unchanged,
        error_count=result.error_count,
        errors=result.errors,
    )


def _format(request: Request) -> Format:
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent not in FORMATS:
        raise Problem(
            415, "unsupported-media-type", f"Send the file as {' or '.join(FORMATS)}, not {sent or 'nothing'}."
        )
    return FORMATS[sent]


async def _save(request: Request, path: Path) -> None:
    try:
        with path.open("wb") as file:
            async for chunk in request.stream():
                await asyncio.to_thread(file.write, chunk)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise unavailable("storage-full", "There is no room for the file now. Try again later.") from error
