"""Recommendations: what to order now, for which stock item, and why."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from libs.chassis import etag
from libs.chassis.database import ReadConnection, WriteConnection
from libs.chassis.model import ApiModel
from libs.chassis.paging import Page, Paging
from libs.events.envelope import Instant, JsonObject, Sku, WarehouseId
from services.reorder import evaluation, planning, recommendation
from services.reorder.queries import recommendations
from services.reorder.recommendation import Outcome, Recommendation, Status
from services.reorder.routes.parameters import Planner, Reader, VisibleItems

router = APIRouter(prefix="/api/v1", tags=["recommendations"])

RecommendationId = Annotated[UUID, Path(alias="recommendationId")]


class RecommendationPatch(ApiModel):
    """What to do with a recommendation."""

    status: Literal[Status.DISMISSED, Status.SNOOZED]
    snoozed_until: Annotated[Instant | None, Field(description="For `snoozed`: an instant in the future.")] = None


class RecommendationOut(ApiModel):
    """A recommendation as last figured out. Its ETag is the revision."""

    recommendation_id: UUID
    sku: Sku
    warehouse_id: WarehouseId
    status: Status
    recommended_quantity: int
    inventory_position: int
    reorder_point: int
    supplier_id: str | None
    explanation: Annotated[JsonObject, Field(description="Every input, the formula's name and each step.")]
    revision: int
    snoozed_until: datetime | None
    created_at: datetime
    updated_at: datetime
    closed_at: datetime | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "RecommendationOut":
        """The recommendation in a row."""
        return cls(**{**row, "status": Status(row["status"])})

    @classmethod
    def shown(cls, told: Recommendation) -> "RecommendationOut":
        """The recommendation as the rules have it."""
        return cls(
            recommendation_id=told.recommendation_id,
            sku=told.item.sku,
            warehouse_id=told.item.warehouse_id,
            status=told.status,
            recommended_quantity=told.recommended_quantity,
            inventory_position=told.inventory_position,
            reorder_point=told.reorder_point,
            supplier_id=None,
            explanation=told.explanation,
            revision=told.revision,
            snoozed_until=told.snoozed_until,
            created_at=told.created_at,
            updated_at=told.updated_at,
            closed_at=told.closed_at,
        )


class RecommendationRunOut(ApiModel):
    """What an evaluation of every stock item did."""

    evaluated: int
    opened: int
    changed: int
    closed: int


@router.get("/recommendations")
async def list_recommendations(
    connection: ReadConnection,
    paging: Paging,
    items: VisibleItems,
    status: Annotated[Status | None, Query()] = None,
) -> Page[RecommendationOut]:
    """Recommendations, the latest first. Those whose crossing of the reorder point is over have a `closedAt`."""
    rows = await recommendations.list_recommendations(connection, paging, items, status)
    return paging.page(rows, ("created_at", "recommendation_id"), RecommendationOut.of)


@router.get("/recommendations/{recommendationId}")
async def get_recommendation(
    recommendation_id: RecommendationId, response: Response, connection: ReadConnection, principal: Reader
) -> RecommendationOut:
    """One recommendation, with its ETag."""
    found = await planning.get_recommendation(connection, recommendation_id)
    principal.check_warehouses(found.item.warehouse_id)
    return _answer(found, response)


@router.patch("/recommendations/{recommendationId}")
async def change_recommendation(
    recommendation_id: RecommendationId,
    body: RecommendationPatch,
    if_match: etag.IfMatch,
    response: Response,
    connection: WriteConnection,
    principal: Planner,
) -> RecommendationOut:
    """Dismiss a recommendation, or snooze it until an instant.

    A dismissed one stays silent until the inventory position has been above the reorder point again.
    """
    held = await planning.hold_recommendation(connection, recommendation_id)
    principal.check_warehouses(held.item.warehouse_id)
    etag.check(if_match, held.revision)
    now = datetime.now(UTC)
    if body.status == Status.DISMISSED:
        changed = recommendation.dismiss(held, now)
    else:
        changed = recommendation.snooze(held, body.snoozed_until, now)
    await recommendations.save_recommendations(connection, [changed])
    return _answer(changed, response)


@router.post("/recommendation-runs")
async def run_recommendations(request: Request, principal: Planner) -> RecommendationRunOut:
    """Evaluate every stock item now. Answers when all are done; each block of 2,000 items is committed by itself."""
    evaluated, outcomes = await evaluation.evaluate_all(request.app.state.pool)
    return RecommendationRunOut(
        evaluated=evaluated,
        opened=outcomes[Outcome.OPENED],
        changed=outcomes[Outcome.CHANGED],
        closed=outcomes[Outcome.CLOSED],
    )


def _answer(told: Recommendation, response: Response) -> RecommendationOut:
    response.headers["ETag"] = etag.etag(told.revision)
    return RecommendationOut.shown(told)
