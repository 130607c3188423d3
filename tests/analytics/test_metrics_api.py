"""Metrics from the published views, through the cache."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from services.analytics.settings import Settings
from tests.analytics.conftest import running

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LAST = date(2026, 3, 1)


async def add_movement(
    pipeline: asyncpg.Connection, sku: str, units: int, *, kind: str = "SALE", day: date = LAST, warehouse: str = "UK"
) -> None:
    """One ledger entry in the facts, and in the position that counts entries, as the stream writes them together."""
    inbound = kind in ("RETURN", "OPENING_BALANCE", "RECEIPT")
    await pipeline.execute(
        """
        INSERT INTO pipeline.daily_movement AS stored
               (sku, warehouse_id, date, transaction_type, entries, units_in, units_out, value, last_event_at)
        VALUES ($1, $2, $3, $4, 1, $5, $6, 0, $7)
        ON CONFLICT (sku, warehouse_id, date, transaction_type)
        DO UPDATE SET entries = stored.entries + 1, units_in = stored.units_in + excluded.units_in,
                      units_out = stored.units_out + excluded.units_out, revision = stored.revision + 1
        """,
        sku,
        warehouse,
        day,
        kind,
        units if inbound else 0,
        0 if inbound else units,
        AT,
    )
    await pipeline.execute(
        """
        INSERT INTO pipeline.stock_position AS stored (sku, warehouse_id, last_sequence) VALUES ($1, $2, 1)
        ON CONFLICT (sku, warehouse_id) DO UPDATE SET last_sequence = stored.last_sequence + 1
        """,
        sku,
        warehouse,
    )


async def add_metric(
    pipeline: asyncpg.Connection,
    sku: str,
    *,
    warehouse: str = "UK",
    as_of: date = LAST,
    demand: int = 0,
    slope: float = 0,
) -> None:
    await pipeline.execute(
        """
        INSERT INTO pipeline.stock_metric (sku, warehouse_id, as_of, demand_7, demand_30, demand_90, velocity_7,
               velocity_30, velocity_90, sd_daily_7, slope_per_day, direction, revision)
        VALUES ($1, $2, $3, $4, $4, $4, $4::bigint / 7.0, $4::bigint / 30.0, $4::bigint / 90.0, 1.5, $5, 'UP', 3)
        """,
        sku,
        warehouse,
        as_of,
        demand,
        slope,
    )


def units(answer: httpx.Response) -> Mapping[str, int]:
    return {item["sku"]: item["netUnits"] for item in answer.json()["items"]}


async def test_velocity_is_given_per_stock_item(client: httpx.AsyncClient, pipeline: asyncpg.Connection) -> None:
    await add_metric(pipeline, "A", demand=3013)

    (item,) = (await client.get("/metrics/velocity", params={"sku": "A", "warehouseId": "UK"})).json()["items"]

    assert (item["sku"], item["warehouseId"], item["asOf"]) == ("A", "UK", "2026-03-01")
    assert [round(window["velocityPerDay"], 6) for window in item["windows"]] == [430.428571, 100.433333, 33.477778]
    assert item["windows"][0]["sdDailyDemand"] == 1.5


async def test_velocity_by_sku_sums_the_warehouses_of_the_present_day(
    client: httpx.AsyncClient, pipeline: asyncpg.Connection
) -> None:
    await add_metric(pipeline, "A", warehouse="UK", demand=30)
    await add_metric(pipeline, "A", warehouse="EIRE", demand=60)
    await add_metric(pipeline, "A", warehouse="idle since long", demand=500, as_of=date(2025, 1, 1))

    (item,) = (await client.get("/metrics/velocity", params={"groupBy": "sku"})).json()["items"]

    assert (item["warehouseId"], item["windows"][1]["demand"], item["windows"][1]["velocityPerDay"]) == (None, 90, 3.0)


async def test_velocity_is_paged_in_order_of_sku(client: httpx.AsyncClient, pipeline: asyncpg.Connection) -> None:
    for sku in ("b", "B", "a", "10"):
        await add_metric(pipeline, sku)

    for grouping in ("stockItem", "sku"):
        first = await client.get("/metrics/velocity", params={"groupBy": grouping, "limit": 3})
        cursor = first.json()["nextCursor"]
        second = await client.get("/metrics/velocity", params={"groupBy": grouping, "limit": 3, "cursor": cursor})
        assert [item["sku"] for page in (first, second) for item in page.json()["items"]] == ["10", "B", "a", "b"]


async def test_trends_are_given_per_stock_item(client: httpx.AsyncClient, pipeline: asyncpg.Connection) -> None:
    await add_metric(pipeline, "A", slope=0.25)

    (item,) = (await client.get("/metrics/trends")).json()["items"]

    assert (item["slopePerDay"], item["direction"], item["changeRatio30d"]) == (0.25, "UP", None)


async def test_top_movers_rank_net_units_with_ties_in_byte_order(
    client: httpx.AsyncClient, pipeline: asyncpg.Connection
) -> None:
    await add_metric(pipeline, "any")
    for sku, sold in {"b": 5, "B": 5, "ä": 5, "top": 9}.items():
        await add_movement(pipeline, sku, sold)
    await add_movement(pipeline, "top", 2, kind="RETURN")
    await add_movement(pipeline, "top", 100, kind="OPENING_BALANCE")
    await add_movement(pipeline, "B", 70, kind="WRITE_OFF")

    answer = await client.get("/metrics/top-movers")

    assert [(item["rank"], item["sku"], item["netUnits"]) for item in answer.json()["items"]] == [
        (1, "top", 7),
        (2, "B", 5),
        (3, "b", 5),
        (4, "ä", 5),
    ]
    top = answer.json()["items"][0]
    assert (top["grossUnitsOut"], top["grossUnitsIn"], top["movements"]) == (9, 2, 2)


async def test_top_movers_count_whole_days_up_to_the_metrics_date(
    client: httpx.AsyncClient, pipeline: asyncpg.Connection
) -> None:
    await add_metric(pipeline, "any")
    for days_ago, sold in {0: 1, 6: 2, 7: 4, 29: 8, 30: 16}.items():
        await add_movement(pipeline, "A", sold, day=LAST - timedelta(days=days_ago))

    week, month = await client.get("/metrics/top-movers"), await client.get("/metrics/top-movers?days=30")

    assert (week.json()["dateFrom"], week.json()["dateTo"]) == ("2026-02-23", "2026-03-01")
    assert (units(week), units(month)) == ({"A": 3}, {"A": 15})
    assert (await client.get("/metrics/top-movers?days=8")).status_code == 422


async def test_a_cached_answer_is_never_older_than_the_facts(
    client: httpx.AsyncClient, pipeline: asyncpg.Connection
) -> None:
    await add_metric(pipeline, "any")
    for expected in (1, 2, 3):
        await add_movement(pipeline, "A", 1)
        answers = [units(await client.get("/metrics/top-movers")) for _ in range(2)]
        assert answers == [{"A": expected}] * 2


async def test_without_redis_answers_are_computed(settings: Settings, pipeline: asyncpg.Connection) -> None:
    await add_metric(pipeline, "any")
    await add_movement(pipeline, "A", 3)
    nowhere = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})

    async with running(nowhere) as client:
        assert units(await client.get("/metrics/top-movers")) == {"A": 3}


async def test_the_summary_counts_movements_but_no_opening_balance(
    client: httpx.AsyncClient, pipeline: asyncpg.Connection
) -> None:
    await add_metric(pipeline, "any")
    await add_movement(pipeline, "A", 10)
    await add_movement(pipeline, "A", 4, kind="RETURN", warehouse="EIRE", day=date(2026, 2, 27))
    await add_movement(pipeline, "B", 500, kind="OPENING_BALANCE")

    summary = (await client.get("/metrics/summary")).json()
    one_warehouse = (await client.get("/metrics/summary", params={"warehouseId": "EIRE"})).json()

    assert {name: summary[name] for name in ("movements", "netUnitsSold", "grossUnitsOut", "grossUnitsIn")} == {
        "movements": 2,
        "netUnitsSold": 6,
        "grossUnitsOut": 10,
        "grossUnitsIn": 4,
    }
    assert [summary[f"distinct{what}"] for what in ("Skus", "Warehouses", "StockItems")] == [1, 2, 2]
    assert (summary["quantityChange"], summary["daysWithMovements"]) == (-6, 2)
    assert (one_warehouse["movements"], one_warehouse["netUnitsSold"]) == (1, -4)


async def add_daily_metric(pipeline: asyncpg.Connection, sku: str, day: date = LAST, **figures: object) -> None:
    await pipeline.execute(
        """
        INSERT INTO pipeline.daily_metric
               (date, sku, warehouse_id, demand_7, demand_30, demand_90, velocity_7, velocity_30, velocity_90,
                sd_daily_7, sd_daily_30, sd_daily_90, slope_per_day, direction, turnover_30, turnover_90,
                days_of_supply, stockout_risk, abc_class, xyz_class)
        VALUES ($1, $2, 'UK', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'FLAT', 12.0, 9.5, $3, $4, $5, $6)
        """,
        day,
        sku,
        *(figures.get(name) for name in ("days_of_supply", "stockout_risk", "abc_class", "xyz_class")),
    )


async def test_turnover_risk_and_classes_are_those_of_the_latest_date_or_of_the_one_asked_for(
    client: httpx.AsyncClient, pipeline: asyncpg.Connection
) -> None:
    await add_daily_metric(pipeline, "A", days_of_supply=3.5, stockout_risk=0.25, abc_class="A", xyz_class="Z")
    await add_daily_metric(pipeline, "B", abc_class="C")
    await add_daily_metric(pipeline, "A", date(2026, 2, 1), abc_class="B")

    async def items(path: str, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await client.get(f"/metrics/{path}", params=query)).json()["items"]
        return found

    item = {"sku": "A", "warehouseId": "UK", "asOf": "2026-03-01"}
    assert await items("turnover", sku="A") == [item | {"turnover30": 12.0, "turnover90": 9.5, "daysOfSupply": 3.5}]
    assert await items("stockout-risk", sku="A") == [item | {"stockoutRisk": 0.25, "daysOfSupply": 3.5}]
    assert await items("classes", abcClass="A") == [item | {"abcClass": "A", "xyzClass": "Z"}]
    assert [found["sku"] for found in await items("classes")] == ["A", "B"]
    assert [found["abcClass"] for found in await items("classes", asOf="2026-02-01")] == ["B"]
    assert await items("classes", xyzClass="X") == await items("turnover", asOf="2025-01-01") == []


@pytest.mark.parametrize(
    "path",
    ["velocity", "velocity?groupBy=sku", "trends", "turnover", "stockout-risk", "classes", "top-movers", "summary"],
)
async def test_an_empty_system_has_empty_answers(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/metrics/{path}")

    assert answer.status_code == 200
    assert answer.json().get("items", []) == []


@pytest.mark.parametrize(
    "query", [{"sku": ""}, {"warehouseId": " "}, {"limit": "0"}, {"colour": "red"}, {"cursor": "x"}, {"groupBy": "day"}]
)
async def test_bad_parameters_are_refused(client: httpx.AsyncClient, query: dict[str, Any]) -> None:
    answer = await client.get("/metrics/velocity", params=query)

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
