"""What the services answer when everything is posted and nothing waits any more."""

from dataclasses import dataclass
from typing import Any

from tools.demo.stockflow import Stockflow

TOP_SKUS = 20


@dataclass(frozen=True, slots=True)
class Answers:
    """Bodies of REST answers, as they came."""

    clock: dict[str, Any]
    summary: dict[str, Any]
    consumers: list[dict[str, Any]]
    stock_levels: list[dict[str, Any]]
    """All of them."""
    top_movers: list[dict[str, Any]]
    """Of the last 7 days."""
    velocities: dict[str, dict[int, dict[str, Any]]]
    """sku -> days -> window, summed over the warehouses, of the top movers."""
    recommendations: list[dict[str, Any]]
    """All open ones."""
    days: list[dict[str, Any]]
    warehouses: list[dict[str, Any]]
    skus: list[dict[str, Any]]
    """Movements by day, by warehouse and by sku."""
    reconciliation: dict[str, Any]


async def read_answers(stockflow: Stockflow) -> Answers:
    """Ask all services."""
    top_movers = (await stockflow.get("analytics", "metrics/top-movers", days=7, limit=TOP_SKUS))["items"]
    return Answers(
        clock=await stockflow.get("pipeline", "clock"),
        summary=await stockflow.get("analytics", "metrics/summary"),
        consumers=await stockflow.consumers(),
        stock_levels=await stockflow.every("inventory", "stock-levels"),
        top_movers=top_movers,
        velocities={mover["sku"]: await velocity(stockflow, mover["sku"]) for mover in top_movers},
        recommendations=await stockflow.every("reorder", "recommendations", status="open"),
        days=await stockflow.every("pipeline", "daily-movements", groupBy="date"),
        warehouses=await stockflow.every("pipeline", "daily-movements", groupBy="warehouse"),
        skus=await stockflow.every("pipeline", "daily-movements", groupBy="sku"),
        reconciliation=await stockflow.get("pipeline", "reconciliation"),
    )


async def velocity(stockflow: Stockflow, sku: str) -> dict[int, dict[str, Any]]:
    """Days -> window of a sku over all its warehouses."""
    answer = await stockflow.get("analytics", "metrics/velocity", sku=sku, groupBy="sku")
    return {window["days"]: window for item in answer["items"] for window in item["windows"]}
