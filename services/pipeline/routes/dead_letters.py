"""Records that the service's consumers could not apply."""

from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query

from libs.chassis.database import ReadConnection
from libs.chassis.model import INT64_MAX, ApiModel
from libs.chassis.paging import Page, Paging
from libs.chassis.problems import Problem
from services.pipeline import queries
from services.pipeline.routes.access import Operator

router = APIRouter(prefix="/api/v1/dead-letters", tags=["operations"])

Status = Literal["pending", "retrying", "resolved", "discarded"]


class DeadLetterOut(ApiModel):
    """A record that could not be applied. Its bytes are kept, and mirrored to `<topic>.dlq`."""

    id: int
    group: str
    topic: str
    partition: int
    offset: int
    event_type: str | None
    event_id: str | None
    error_class: str
    error: str
    status: str
    attempts: int
    record_timestamp: datetime
    created_at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "DeadLetterOut":
        """The dead letter in a row."""
        return cls(**row)


class DeadRecordOut(DeadLetterOut):
    """A dead letter with the record as it was; key and value are base64."""

    key: str | None
    value: str | None
    headers: Any


@router.get("")
async def list_dead_letters(
    connection: ReadConnection,
    paging: Paging,
    principal: Operator,
    status: Annotated[Status | None, Query()] = None,
) -> Page[DeadLetterOut]:
    """Records that could not be applied, the latest first."""
    return paging.page(await queries.list_dead_letters(connection, status, paging), ("id",), DeadLetterOut.of)


@router.get("/{id}")
async def get_dead_letter(
    id: Annotated[int, Path(ge=1, le=INT64_MAX)], connection: ReadConnection, principal: Operator
) -> DeadRecordOut:
    """One dead letter, with the record as it was."""
    row = await queries.get_dead_letter(connection, id)
    if row is None:
        raise Problem(404, "not-found", f"There is no dead letter {id}.")
    return DeadRecordOut(**{**row, "key": _base64(row["key"]), "value": _base64(row["value"])})


def _base64(content: bytes | None) -> str | None:
    return None if content is None else b64encode(content).decode()
