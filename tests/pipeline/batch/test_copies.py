"""`data_quality_check` compares what other consumers keep: MongoDB's history and the lake's raw events."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from libs.chassis.database import Pool
from libs.events.analytics import DemandWindow
from libs.events.topics import INVENTORY_EVENTS
from services.analytics.documents import open_documents
from services.analytics.history import documents
from services.pipeline import documents as documents_of_pipeline
from services.pipeline.event_table import Row
from services.pipeline.jobs.run import RunStatus
from services.pipeline.lake import Advance, LakeTable
from services.pipeline.settings import Settings
from tests.analytics.factories import a_line, a_transaction, a_velocity
from tests.factories import an_inventory_update
from tests.pipeline.batch import ledger
from tests.pipeline.batch.ledger import on
from tests.pipeline.batch.test_inventory_etl import empty_outputs, run
from tests.stack import Database

WRITER = "archive:inventory-events:0"
STRANGE = "50|A%"


@pytest.fixture(autouse=True)
async def _empty(database: Database) -> None:
    await ledger.empty(database)
    await empty_outputs(database)


def at(day: int) -> datetime:
    return datetime(2026, 1, day, 10, tzinfo=UTC)


async def keep_history(settings: Settings, *days: int, demand_30: int) -> None:
    """What analytics writes of transactions of one line each, and of the demand of two stock items on the 3rd."""
    windows = [
        DemandWindow(days=each, demand=units, velocity_per_day=units / each, sd_daily_demand=0)
        for each, units in ((7, 1), (30, demand_30), (90, 1))
    ]
    changes = {"as_of": date(2026, 1, 3), "windows": windows, "warehouse_id": "X"}
    async with open_documents(settings.mongo_url.get_secret_value(), "test") as store:
        await store.create_indexes_and_views()
        await store.write(
            documents(
                [
                    *(a_transaction(f"{day}", a_line(), occurred_at=at(day)) for day in days),
                    a_velocity(1, revision=1, sku="A").model_copy(update=changes),
                    a_velocity(1, revision=1, sku=STRANGE).model_copy(update=changes),
                ]
            )
        )


def archive(settings: Settings, *days: int) -> None:
    """What the archive writes of an entry on each of these days, each event twice."""
    table = LakeTable(settings.lake_url, INVENTORY_EVENTS)
    events = [an_inventory_update(sequence=number, timestamp=at(day)) for number, day in enumerate(days, 1)]
    rows = [Row(INVENTORY_EVENTS.name, 0, offset, event) for offset, event in enumerate([*events, *events])]
    table.append(table.event_table.rows(rows), {WRITER: Advance(table.versions([WRITER])[WRITER], len(rows))})


def warnings(steps: dict[str, Any]) -> list[dict[str, Any]]:
    assert steps["status"] is RunStatus.SUCCEEDED
    found: list[dict[str, Any]] = steps["data_quality_check"]["figures"]["warnings"]
    return found


async def test_copies_that_agree_are_no_warning_and_others_say_where(
    pool: Pool, settings: Settings, database: Database
) -> None:
    await ledger.post(
        database,
        [on(1, 10, "RECEIPT"), on(2, 9, "RECEIPT", STRANGE), on(3, -4), on(3, -2), on(3, -1, sku=STRANGE)],
    )
    archive(settings, 1, 2, 3, 3, 3)
    await keep_history(settings, 1, 2, demand_30=6)

    found = warnings(await run(pool, settings, 1, 3))

    assert found == [
        {"check": "history-rows", "date": "2026-01-03", "rows": 0, "expected": 3},
        {"check": "metric-history", "date": "2026-01-03", "stockItems": 1, "compared": 2},
    ]


async def test_a_copy_that_is_away_is_unchecked_and_the_run_goes_on(
    pool: Pool, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.post(database, [on(1, 10, "RECEIPT")])
    monkeypatch.setattr(documents_of_pipeline, "SELECTION_TIMEOUT_MS", 100)
    away = SecretStr("mongodb://127.0.0.1:9/analytics")

    found = warnings(await run(pool, settings.model_copy(update={"mongo_url": away}), 1, 1))

    unchecked = {each["check"]: each["unchecked"] for each in found if "unchecked" in each}
    assert unchecked.keys() == {"history-rows", "metric-history"}
    assert all("ServerSelectionTimeoutError" in reason for reason in unchecked.values())
    assert [each for each in found if each["check"] == "event-rows"] == [
        {"check": "event-rows", "date": "2026-01-01", "rows": 0, "expected": 1}
    ]
