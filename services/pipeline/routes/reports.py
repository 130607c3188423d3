"""Reports: the weekly summaries of all warehouses, as data and as pages."""

from collections.abc import Mapping
from typing import Annotated, Any, Self
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse
from pydantic import AwareDatetime, Field

from libs.chassis.database import Connection, ReadConnection
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging
from libs.chassis.problems import RefusalMap
from services.pipeline import weekly_queries
from services.pipeline.routes.access import Reader, check_warehouse
from services.pipeline.weekly_summary import WeeklySummary


class UnknownReport(Exception):
    """There is no such report, or it is not published yet."""


REFUSALS: RefusalMap = {UnknownReport: (404, "not-found")}

router = APIRouter(prefix="/api/v1/reports", tags=["reports"])

ReportId = Annotated[UUID, Path(alias="reportId")]


class ReportOut(ApiModel):
    """A report."""

    report_id: UUID
    kind: str
    week: Annotated[str, Field(description="Its Monday, a date.")]
    generated_at: AwareDatetime
    published_at: AwareDatetime
    html_url: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """A row of `report`."""
        same = {name: row[name] for name in ("report_id", "kind", "generated_at", "published_at")}
        return cls(week=row["week"].isoformat(), html_url=f"/api/v1/reports/{row['report_id']}.html", **same)


class WholeReportOut(ReportOut):
    """A report with its content."""

    summary: WeeklySummary

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """A row of `report`."""
        return cls(**dict(ReportOut.of(row)), summary=WeeklySummary.read(row["content"]))


@router.get("")
async def list_reports(connection: ReadConnection, paging: Paging, principal: Reader) -> Page[ReportOut]:
    """Reports, the latest week first."""
    check_warehouse(principal, None)
    rows = await weekly_queries.list_reports(connection, paging)
    return paging.page(rows, ("week_text", "report_id"), ReportOut.of)


@router.get("/{reportId}.html", response_class=HTMLResponse)
async def get_report_page(report_id: ReportId, connection: ReadConnection, principal: Reader) -> HTMLResponse:
    """A report as a page with plots. It runs no script and loads nothing."""
    check_warehouse(principal, None)
    row = await _found(connection, report_id)
    headers = {"Content-Security-Policy": row["html_policy"], "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(row["html"], headers=headers)


@router.get("/{reportId}")
async def get_report(report_id: ReportId, connection: ReadConnection, principal: Reader) -> WholeReportOut:
    """A report as data."""
    check_warehouse(principal, None)
    return WholeReportOut.of(dict(await _found(connection, report_id)))


async def _found(connection: Connection, report_id: UUID) -> asyncpg.Record:
    row = await weekly_queries.find_report(connection, report_id)
    if row is None:
        raise UnknownReport(f"There is no report {report_id}.")
    return row
