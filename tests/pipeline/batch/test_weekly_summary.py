"""The job `weekly_summary`: figures of the week, the report as data, page and mail."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from email import message_from_bytes
from email.policy import default
from hashlib import sha256
from typing import Any

import httpx
import pytest

from libs.chassis.database import Pool
from services.pipeline import weekly_report
from services.pipeline.app import create_app
from services.pipeline.chart import bar_chart
from services.pipeline.jobs.execution import Execution
from services.pipeline.jobs.job import Interval, find
from services.pipeline.jobs.run import RunRequest, RunStatus
from services.pipeline.jobs.weekly_summary import NotOneWeek, week_of
from services.pipeline.mailer import Mailer, SmtpServer
from services.pipeline.settings import Settings
from services.pipeline.weekly_summary import WeeklySummary, change
from tests.pipeline.batch.mail_server import MailServer
from tests.pipeline.batch.stock import remove_stock, set_stock
from tests.pipeline.batch.test_runs import claim, start
from tests.stack import Database

MONDAY = date(2026, 1, 5)
THE_WEEK = Interval(datetime(2026, 1, 5, 1, tzinfo=UTC), datetime(2026, 1, 12, 1, tzinfo=UTC))


@pytest.fixture
async def sold(database: Database, pool: Pool) -> AsyncIterator[None]:
    """A laptop that sells out on Thursday and is filled up on Saturday, and one sold more in the week before."""
    await set_stock(database, "LAPTOP", 0, unit_cost="2.5")
    await set_stock(database, "<b>", 0)
    moves = [
        ("LAPTOP", date(2025, 12, 30), "RECEIPT", 10, 0, 0),
        ("LAPTOP", date(2025, 12, 31), "SALE", 0, 4, -40),
        ("LAPTOP", date(2026, 1, 5), "SALE", 0, 2, -20),
        ("LAPTOP", date(2026, 1, 8), "SALE", 0, 4, -40),
        ("LAPTOP", date(2026, 1, 10), "RECEIPT", 8, 0, 0),
        ("LAPTOP", date(2026, 1, 11), "RETURN", 1, 0, 10),
        ("LAPTOP", date(2026, 1, 13), "SALE", 0, 9, -90),
        ("<b>", date(2026, 1, 2), "OPENING_BALANCE", 7, 0, 0),
        ("<b>", date(2026, 1, 3), "SALE", 0, 5, -5),
        ("<b>", date(2026, 1, 9), "SALE", 0, 1, -1),
    ]
    await pool.executemany(
        """
        INSERT INTO daily_movement (sku, warehouse_id, date, transaction_type, entries, units_in, units_out, value,
                                    last_event_at)
        VALUES ($1, 'BERLIN-1', $2, $3, 1, $4, $5, $6, now())
        """,
        moves,
    )
    await pool.execute(
        "INSERT INTO stock_position (sku, warehouse_id, quantity_on_hand)"
        " VALUES ('LAPTOP', 'BERLIN-1', 0), ('<b>', 'BERLIN-1', 1)"
    )
    yield
    await remove_stock(database)


@pytest.fixture
def mailing(settings: Settings) -> Settings:
    """One person gets the summary."""
    return settings.model_copy(update={"mail_recipients": ["ada@example.org"], "mail_poll_seconds": 0.02})


@pytest.fixture
async def client(settings: Settings, pool: Pool) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running API."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test/api/v1") as client,
    ):
        yield client


async def run(pool: Pool, settings: Settings, interval: Interval = THE_WEEK) -> None:
    run_id = await start(pool, RunRequest("weekly_summary", interval, "test"))
    assert await Execution(await claim(pool, run_id), pool, settings).run() is RunStatus.SUCCEEDED


async def summary(client: httpx.AsyncClient) -> dict[str, Any]:
    [listed] = (await client.get("/reports")).json()["items"]
    found: dict[str, Any] = (await client.get(f"/reports/{listed['reportId']}")).json()["summary"]
    return found


@pytest.mark.usefixtures("sold")
async def test_the_week_is_summed_beside_the_week_before(
    client: httpx.AsyncClient, pool: Pool, settings: Settings
) -> None:
    await run(pool, settings)

    found = await summary(client)

    assert found["week"] == "2026-01-05"
    totals, before = found["totals"], found["totalsBefore"]
    assert (totals["movements"], totals["demand"], totals["unitsIn"], totals["unitsOut"]) == (5, 6, 9, 7)
    assert (before["movements"], before["demand"]) == (3, 9)
    assert (float(totals["salesValue"]), float(before["salesValue"])) == (51, 45)
    # 9 laptops at the end of the week, 6 a week before; nobody knows what a <b> costs.
    assert (float(totals["stockValue"]), float(before["stockValue"])) == (22.5, 15)
    assert totals["itemsWithoutCost"] == 1
    assert found["topMovers"][0] == {"sku": "LAPTOP", "name": "The laptop", "demand": 5, "demandBefore": 4}
    assert [day["demand"] for day in found["days"]] == [2, 0, 0, 4, 1, 0, -1]
    assert [day["demandBefore"] for day in found["days"]] == [0, 0, 4, 0, 0, 5, 0]
    assert found["qualityScore"] is None


@pytest.mark.usefixtures("sold")
async def test_days_that_end_empty_are_stockouts(client: httpx.AsyncClient, pool: Pool, settings: Settings) -> None:
    await run(pool, settings)

    found = await summary(client)

    assert [day["stockouts"] for day in found["days"]] == [0, 0, 0, 1, 1, 0, 0]
    assert found["stockouts"] == [
        {"sku": "LAPTOP", "name": "The laptop", "warehouseId": "BERLIN-1", "days": 2, "demand": 5}
    ]
    assert (found["totals"]["stockoutItems"], found["totalsBefore"]["stockoutItems"]) == (1, 0)


@pytest.mark.usefixtures("sold")
async def test_the_quality_score_is_the_share_that_passed_on_the_days_that_were_checked(
    client: httpx.AsyncClient, pool: Pool, mailing: Settings
) -> None:
    for day, rows, status in (
        (date(2025, 12, 31), 10, "failed"),
        (date(2026, 1, 6), 90, "passed"),
        (date(2026, 1, 7), 10, "failed"),
    ):
        await pool.execute(
            "INSERT INTO dataset_partition VALUES ('ledger_entries', $1, 1, $2, gen_random_uuid(), now())", day, rows
        )
        await pool.execute(
            "INSERT INTO partition_quality (date, status, run_id) VALUES ($1, $2, gen_random_uuid())", day, status
        )

    await run(pool, mailing)
    await pool.execute("DELETE FROM partition_quality")
    await pool.execute("DELETE FROM dataset_partition")

    found = await summary(client)
    assert (found["qualityScore"], found["qualityDays"]) == (0.9, 2)
    assert (found["qualityScoreBefore"], found["qualityDaysBefore"]) == (0.0, 1)
    page = await pool.fetchval("SELECT html FROM report")
    assert "90.00 % (2 of 7 days checked)" in page
    assert "0.00 % (1 of 7 days checked)" in page
    mail = message_from_bytes(await pool.fetchval("SELECT content FROM mail"), policy=default)
    for kind in ("plain", "html"):
        body = mail.get_body((kind,))
        assert body is not None
        assert "2 of 7 days checked" in body.get_content()


@pytest.mark.usefixtures("sold")
async def test_a_summary_from_before_days_were_counted_is_still_shown(
    client: httpx.AsyncClient, pool: Pool, settings: Settings
) -> None:
    await run(pool, settings)
    await pool.execute("UPDATE report SET content = content - 'qualityDays' - 'qualityDaysBefore'")

    found = await summary(client)

    assert (found["totals"]["demand"], found["qualityDays"]) == (6, None)
    assert "of 7 days" not in weekly_report.page(WeeklySummary.read(found), datetime.now(UTC)).html


@pytest.mark.usefixtures("sold")
async def test_run_again_the_report_is_replaced_and_mailed_once(
    client: httpx.AsyncClient, pool: Pool, mailing: Settings
) -> None:
    await run(pool, mailing)
    first = (await client.get("/reports")).json()["items"][0]
    rows = await pool.fetch("SELECT * FROM weekly_stock_item ORDER BY week, sku")
    await run(pool, mailing)
    assert rows == await pool.fetch("SELECT * FROM weekly_stock_item ORDER BY week, sku")
    await pool.execute("UPDATE daily_movement SET units_out = 3 WHERE date = '2026-01-05'")

    await run(pool, mailing)

    [again] = (await client.get("/reports")).json()["items"]
    assert (again["reportId"], again["publishedAt"]) == (first["reportId"], first["publishedAt"])
    assert (await summary(client))["totals"]["demand"] == 7
    assert await pool.fetchval("SELECT count(*) FROM mail") == 1


async def test_a_report_that_nobody_could_be_sent_is_mailed_once_somebody_can_be(
    pool: Pool, settings: Settings, mailing: Settings
) -> None:
    await run(pool, settings)
    assert await pool.fetchval("SELECT count(*) FROM mail") == 0

    await run(pool, mailing)
    await run(pool, mailing)

    assert await pool.fetchval("SELECT count(*) FROM mail") == 1


async def test_a_report_that_was_published_is_not_mailed_again_when_its_mail_is_forgotten(
    pool: Pool, mailing: Settings
) -> None:
    await run(pool, mailing)
    await pool.execute("DELETE FROM mail")

    await run(pool, mailing.model_copy(update={"mail_from": "stockflow@another.example"}))

    assert await pool.fetchval("SELECT count(*) FROM mail") == 0


@pytest.mark.usefixtures("sold")
async def test_the_mail_tells_in_short_and_carries_the_page(pool: Pool, mailing: Settings) -> None:
    await run(pool, mailing)
    server, stop = MailServer(), asyncio.Event()

    async with server.up():
        sending = asyncio.create_task(Mailer(mailing, pool, SmtpServer.of(f"smtp://127.0.0.1:{server.port}")).run(stop))
        while not await pool.fetchval("SELECT bool_and(sent_at IS NOT NULL) FROM mail_delivery"):
            await asyncio.sleep(0.02)
        stop.set()
        await sending

    [(recipient, message)] = server.received
    assert (recipient, message["Subject"]) == ("ada@example.org", "Week of 2026-01-05: 6 units sold")
    [attached] = message.iter_attachments()
    assert attached.get_filename() == "weekly-summary-2026-01-05.html"
    assert "<svg" in attached.get_content()


@pytest.mark.usefixtures("sold")
async def test_the_page_shows_plots_and_allows_nothing_but_its_own_style(
    client: httpx.AsyncClient, pool: Pool, settings: Settings
) -> None:
    await run(pool, settings)
    [listed] = (await client.get("/reports")).json()["items"]

    answer = await client.get(listed["htmlUrl"].removeprefix("/api/v1"))

    page = answer.text
    style = page.partition("<style>")[2].partition("</style>")[0]
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in policy
    assert "unsafe" not in policy
    assert page.count("<svg") == 4
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert " style=" not in page


async def test_a_week_without_anything_has_a_report(client: httpx.AsyncClient, pool: Pool, settings: Settings) -> None:
    await run(pool, settings)

    found = await summary(client)

    assert (found["totals"]["demand"], found["topMovers"], found["warehouses"]) == (0, [], [])


async def test_unknown_reports_are_not_found(client: httpx.AsyncClient) -> None:
    for path in ("", ".html"):
        answer = await client.get(f"/reports/00000000-0000-0000-0000-000000000000{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_the_schedule_covers_one_week_at_a_time() -> None:
    since, until = datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)

    weeks = [week_of(interval) for interval in find("weekly_summary").intervals(since, until)]

    assert MONDAY in weeks
    assert all(week.weekday() == 0 for week in weeks)
    with pytest.raises(NotOneWeek):
        week_of(Interval(since, until))
    with pytest.raises(NotOneWeek):
        week_of(Interval(datetime(2026, 1, 6, tzinfo=UTC), datetime(2026, 1, 9, tzinfo=UTC)))


def test_bars_share_one_scale_and_negative_values_have_none() -> None:
    chart = bar_chart("Units", [("Monday", (200, 100)), ("Tuesday", (-5, 0))])

    widths = [bar.width for bar in chart.bars]
    assert widths[0] == 2 * widths[1] > 0
    assert widths[2:] == [0, 0]
    assert bar_chart("Nothing", []).bars == []


def test_change_is_unknown_where_there_was_nothing() -> None:
    assert change(3, 2) == 0.5
    assert change(3, 0) is None
