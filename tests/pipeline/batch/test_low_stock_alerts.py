"""The job `low_stock_alerts` from the shelf to the mailbox, with a real mail server."""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import aiosmtplib
import pytest
import trustme
from pydantic import SecretStr

from libs.chassis.database import Connection, Pool
from services.pipeline import alert_queries
from services.pipeline.alert import Alert, Notice
from services.pipeline.alert_digest import Circle, digests
from services.pipeline.jobs import low_stock_alerts
from services.pipeline.jobs.execution import Execution
from services.pipeline.jobs.job import Interval
from services.pipeline.jobs.run import RunRequest, RunStatus
from services.pipeline.mailer import BadSmtpUrl, Mailer, SmtpServer
from services.pipeline.settings import Settings
from tests.pipeline.batch.mail_server import MailServer
from tests.pipeline.batch.stock import remove_stock, set_stock
from tests.pipeline.batch.test_alert import NOW, a_told_alert
from tests.pipeline.batch.test_runs import THE_DAY, claim, start
from tests.stack import Database


@pytest.fixture
async def stocked(database: Database, pool: Pool) -> AsyncIterator[None]:
    """Two warehouses: one item is empty, one at its reorder point, one has plenty."""
    await remove_stock(database)
    await set_stock(database, "LAPTOP", 0, sold_per_day=2)
    await set_stock(database, "MOUSE", 5, warehouse_id="LYON-1", reorder_point=5)
    await set_stock(database, "DESK", 1_000, reorder_point=10, sold_per_day=2)
    yield
    await remove_stock(database)


@pytest.fixture
async def mail_server() -> AsyncIterator[MailServer]:
    """A mail server that listens."""
    server = MailServer()
    async with server.up():
        yield server


@pytest.fixture
def mailing(settings: Settings) -> Settings:
    """Everybody hears of every warehouse but Lyon, which has its own two people."""
    return settings.model_copy(
        update={
            "mail_from": "stockflow@example.org",
            "mail_recipients": ["ops@example.org"],
            "mail_warehouse_recipients": {"LYON-1": ["ada@example.org", "bob@example.org"]},
            "mail_poll_seconds": 0.02,
            "mail_retry_seconds": 0.02,
        }
    )


async def run(pool: Pool, settings: Settings, interval: Interval = THE_DAY) -> RunStatus:
    run_id = await start(pool, RunRequest("low_stock_alerts", interval, "test"))
    return await Execution(await claim(pool, run_id), pool, settings).run()


async def send_until_nothing_waits(pool: Pool, settings: Settings, server: MailServer, senders: int = 1) -> None:
    await send_by(SmtpServer.of(f"smtp://127.0.0.1:{server.port}"), pool, settings, senders)


async def send_by(smtp: SmtpServer, pool: Pool, settings: Settings, senders: int = 1) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(senders):
            tasks.create_task(Mailer(settings, pool, smtp).run(stop))
        while await pool.fetchval("SELECT EXISTS (SELECT FROM mail_delivery WHERE sent_at IS NULL)"):
            await asyncio.sleep(0.02)
        stop.set()


async def events(pool: Pool) -> list[dict[str, Any]]:
    rows = await pool.fetch("SELECT value FROM outbox ORDER BY id")
    return [json.loads(row["value"]) for row in rows]


async def alerts(pool: Pool) -> dict[str, tuple[str, str]]:
    rows = await pool.fetch("SELECT sku, status, severity FROM alerts_v1 ORDER BY opened_at")
    return {row["sku"]: (row["status"], row["severity"]) for row in rows}


@pytest.mark.usefixtures("stocked")
async def test_what_is_short_is_told_once_to_those_concerned(
    pool: Pool, mailing: Settings, mail_server: MailServer
) -> None:
    assert await run(pool, mailing) is RunStatus.SUCCEEDED
    assert await run(pool, mailing) is RunStatus.SUCCEEDED
    await send_until_nothing_waits(pool, mailing, mail_server)

    assert await alerts(pool) == {"LAPTOP": ("open", "critical"), "MOUSE": ("open", "info")}
    assert Counter(event["sku"] for event in await events(pool)) == {"LAPTOP": 1, "MOUSE": 1}
    mails = dict(mail_server.received)
    assert len(mail_server.received) == 3
    assert mails["ops@example.org"]["Subject"] == "Low stock: 1 alert, 1 critical, in BERLIN-1"
    assert mails["ada@example.org"]["Message-ID"] == mails["bob@example.org"]["Message-ID"]
    assert mails["ada@example.org"]["To"] == "ada@example.org, bob@example.org"
    for kind in ("plain", "html"):
        body = mails["ops@example.org"].get_body((kind,))
        assert body is not None
        text = body.get_content()
        assert "LAPTOP" in text
        assert "The laptop" in text
        assert "MOUSE" not in text
        assert "nsubscribe" not in text


@pytest.mark.usefixtures("stocked")
async def test_many_alerts_are_written_some_at_a_time(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    async def save(connection: Connection, changed: Sequence[Alert]) -> None:
        written.append(len(changed))
        await alert_queries.save(connection, changed)

    queries = SimpleNamespace(**{**vars(alert_queries), "save": save})
    monkeypatch.setattr(low_stock_alerts, "alert_queries", queries)
    monkeypatch.setattr(low_stock_alerts, "CHUNK", 1)
    run_id = await start(pool, RunRequest("low_stock_alerts", THE_DAY, "test", steps=("check_low_stock",)))

    assert await Execution(await claim(pool, run_id), pool, settings).run() is RunStatus.SUCCEEDED

    assert written == [1, 1]
    assert await alerts(pool) == {"LAPTOP": ("open", "critical"), "MOUSE": ("open", "info")}


@pytest.mark.usefixtures("stocked")
async def test_an_event_carries_what_the_alert_says(pool: Pool, mailing: Settings) -> None:
    await run(pool, mailing)

    event = next(event for event in await events(pool) if event["sku"] == "LAPTOP")
    assert event["eventType"] == "LOW_STOCK_ALERT"
    assert (event["severity"], event["quantityAvailable"], event["revision"]) == ("critical", 0, 1)
    assert event["stockoutRisk"] > 0.9


async def test_what_gets_worse_and_what_recovers_answers_the_first_mail(
    pool: Pool, mailing: Settings, mail_server: MailServer, database: Database
) -> None:
    mailing = mailing.model_copy(update={"mail_from": f"stockflow@{'d' * 60}.example.org"})
    await set_stock(database, "LAPTOP", 18, sold_per_day=2)
    for available in (18, 1, 1_000):
        await set_stock(database, "LAPTOP", available, sold_per_day=2)
        await run(pool, mailing)
    await send_until_nothing_waits(pool, mailing, mail_server)

    first, worse, recovered = [message for _, message in mail_server.received]
    assert "References" not in first
    assert worse["References"] == recovered["In-Reply-To"] == first["Message-ID"]
    assert [worse["Subject"], recovered["Subject"]] == [
        "Re: Low stock: 1 alert, in BERLIN-1",
        "Re: Low stock: 1 recovered, in BERLIN-1",
    ]
    assert "1,000 available" in recovered.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert await alerts(pool) == {"LAPTOP": ("resolved", "error")}
    await remove_stock(database)


def test_a_name_makes_no_lines_of_its_own() -> None:
    name = "Laptop\n\n== LYON-1 ==\u202eevil"
    [digest] = digests(
        [replace(a_told_alert(), notice=Notice.OPENED)],
        Circle(["ops@example.org"], {}),
        names={a_told_alert().sku: name},
        sender="stockflow@example.org",
        digest_id=UUID(int=1),
        now=NOW,
    )

    assert "(Laptop == LYON-1 == evil)" in digest.mail.text
    assert "\u202e" not in digest.mail.html


@pytest.mark.usefixtures("stocked")
async def test_a_mail_is_given_up_so_long_after_it_was_first_tried(
    pool: Pool, mailing: Settings, mail_server: MailServer
) -> None:
    await run(pool, mailing)
    await pool.execute("UPDATE mail SET created_at = now() - interval '30 days'")
    await pool.execute("UPDATE mail_delivery SET first_attempt_at = now() - interval '30 days' WHERE recipient ~ 'ops'")
    mail_server.refusals += ["452 full"] * 3

    await Mailer(mailing, pool, SmtpServer.of(f"smtp://127.0.0.1:{mail_server.port}")).send_due(asyncio.Event())

    given_up = await pool.fetch("SELECT recipient FROM mail_delivery WHERE given_up_at IS NOT NULL")
    assert [row["recipient"] for row in given_up] == ["ops@example.org"]


@pytest.mark.usefixtures("stocked")
async def test_a_mail_server_that_was_away_gets_every_alert_once(pool: Pool, mailing: Settings) -> None:
    gone = MailServer()
    async with gone.up():
        pass
    stop = asyncio.Event()
    mailer = Mailer(mailing, pool, SmtpServer.of(f"smtp://127.0.0.1:{gone.port}"))
    sending = asyncio.create_task(mailer.run(stop))
    await run(pool, mailing)
    await asyncio.sleep(0.1)
    assert gone.received == []

    async with gone.up():
        gone.refusals += ["421 try later", "452 full", "550 not like this"]
        await send_until_nothing_waits(pool, mailing, gone, senders=2)
    stop.set()
    await sending

    told = Counter((recipient, message["Message-ID"]) for recipient, message in gone.received)
    assert sorted(told.values()) == [1, 1, 1]
    assert await pool.fetchval("SELECT max(attempts) FROM mail_delivery") > 1


@pytest.mark.usefixtures("stocked")
async def test_a_mail_whose_fate_is_unknown_is_sent_again_as_the_same_mail(
    pool: Pool, mailing: Settings, mail_server: MailServer
) -> None:
    await run(pool, mailing)
    mail_server.breaks_after_taking = 1

    await send_until_nothing_waits(pool, mailing, mail_server)

    seen = Counter((recipient, message["Message-ID"]) for recipient, message in mail_server.received)
    assert len(seen) == 3
    assert sorted(seen.values()) == [1, 1, 2]


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """How a server of this machine proves who it is, to all who trust what SSL_CERT_FILE names."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.mark.usefixtures("stocked")
async def test_mails_and_passwords_travel_encrypted(certified: ssl.SSLContext, pool: Pool, mailing: Settings) -> None:
    server = MailServer(tls=certified, login=("ada", "p@ss:word"))
    await run(pool, mailing)

    async with server.up():
        await send_by(SmtpServer.of(f"smtp+starttls://ada:p%40ss%3Aword@localhost:{server.port}"), pool, mailing)

    assert len(server.received) == 3


@pytest.mark.usefixtures("stocked")
async def test_mails_travel_encrypted_from_the_start(certified: ssl.SSLContext, pool: Pool, mailing: Settings) -> None:
    server = MailServer(tls=certified, is_tls_from_the_start=True)
    await run(pool, mailing)

    async with server.up():
        await send_by(SmtpServer.of(f"smtps://localhost:{server.port}"), pool, mailing)

    assert len(server.received) == 3


@pytest.mark.usefixtures("stocked")
async def test_a_server_without_tls_gets_nothing_where_tls_is_asked_for(
    pool: Pool, mailing: Settings, mail_server: MailServer
) -> None:
    await run(pool, mailing)
    mailer = Mailer(mailing, pool, SmtpServer.of(f"smtp+starttls://localhost:{mail_server.port}"))

    with pytest.raises(aiosmtplib.SMTPException):
        await mailer.send_due(asyncio.Event())

    assert mail_server.received == []


async def figures(pool: Pool) -> dict[str, int]:
    """What the latest run has told."""
    found: dict[str, int] = await pool.fetchval("""
        SELECT figures FROM run_step JOIN run USING (run_id) WHERE step = 'send_notifications'
         ORDER BY requested_at DESC LIMIT 1
    """)
    return found


@pytest.mark.usefixtures("stocked")
async def test_what_nobody_could_be_told_is_mailed_once_recipients_are_set(
    pool: Pool, settings: Settings, mailing: Settings, database: Database, mail_server: MailServer
) -> None:
    for _ in range(2):
        assert await run(pool, settings) is RunStatus.SUCCEEDED
        assert (await figures(pool))["noRecipients"] == 2
    assert len(await events(pool)) == 2
    assert await pool.fetchval("SELECT count(*) FROM mail") == 0

    await set_stock(database, "MOUSE", 500, warehouse_id="LYON-1", reorder_point=5)
    for _ in range(2):
        await run(pool, mailing)
    await send_until_nothing_waits(pool, mailing, mail_server)

    [(recipient, mail)] = mail_server.received
    assert (recipient, mail["Subject"]) == ("ops@example.org", "Low stock: 1 alert, 1 critical, in BERLIN-1")
    assert len(await events(pool)) == 2
    assert await figures(pool) == {"events": 0, "mails": 0, "noRecipients": 0}


@pytest.mark.usefixtures("stocked")
@pytest.mark.parametrize(
    ("everybody", "by_warehouse", "told"),
    [
        ([], {}, []),
        ([], {"LYON-1": ["ada@example.org"]}, ["MOUSE"]),
        (["ops@example.org"], {"LYON-1": []}, ["LAPTOP"]),
        (["ops@example.org"], {}, ["LAPTOP", "MOUSE"]),
    ],
)
async def test_alerts_of_warehouses_without_recipients_wait_and_others_do_not(
    pool: Pool,
    settings: Settings,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    everybody: list[str],
    by_warehouse: dict[str, list[str]],
    told: list[str],
) -> None:
    monkeypatch.setattr(low_stock_alerts, "MOST_IN_A_DIGEST", 1)
    monkeypatch.setattr(low_stock_alerts, "MOST_EVENTS", 1)
    recipients = {"mail_recipients": everybody, "mail_warehouse_recipients": by_warehouse}

    await run(pool, settings.model_copy(update=recipients))

    assert [
        row["sku"] for row in await connection.fetch("SELECT sku FROM alert WHERE notice IS NULL ORDER BY 1")
    ] == told
    assert await figures(pool) == {"events": 2, "mails": len(told), "noRecipients": 2 - len(told)}
    line = await connection.fetchrow("SELECT level, fields FROM run_log WHERE event = 'low_stock.told'")
    assert line is not None
    assert (line["level"], line["fields"]["no_recipients"]) == ("info" if len(told) == 2 else "warning", 2 - len(told))


@pytest.mark.usefixtures("stocked")
@pytest.mark.parametrize(
    "taken_on", ["status = 'acknowledged'", "status = 'snoozed', snoozed_until = now() + interval '1 day'"]
)
async def test_what_is_looked_after_before_anybody_was_told_stays_silent_unless_it_gets_worse(
    pool: Pool, settings: Settings, mailing: Settings, connection: Connection, database: Database, taken_on: str
) -> None:
    await run(pool, settings)
    await connection.execute(f"UPDATE alert SET {taken_on} WHERE sku = 'MOUSE'")

    await run(pool, mailing)
    assert await subjects(pool) == ["Low stock: 1 alert, 1 critical, in BERLIN-1"]
    assert (await figures(pool))["noRecipients"] == 0

    await connection.execute("UPDATE alert SET snoozed_until = now() WHERE snoozed_until IS NOT NULL")
    await set_stock(database, "MOUSE", 0, warehouse_id="LYON-1", reorder_point=5)
    await run(pool, mailing)
    assert (await subjects(pool))[1:] == ["Low stock: 1 alert, 1 critical, in LYON-1"]


async def subjects(pool: Pool) -> list[str]:
    return [row["subject"] for row in await pool.fetch("SELECT subject FROM mail ORDER BY created_at")]


@pytest.mark.parametrize("url", ["http://mail", "smtp://", "smtp://ada:secret@mail"])
def test_an_address_that_is_none_or_would_show_a_password_is_refused(url: str) -> None:
    with pytest.raises(BadSmtpUrl):
        SmtpServer.of(url)


def test_the_address_says_how_to_connect() -> None:
    assert SmtpServer.of("smtps://a%40b:p%3Aq@mail.test") == SmtpServer("mail.test", 465, "smtps", "a@b", "p:q")
    assert SmtpServer.of("smtp+starttls://mail.test").port == 587


def test_settings_are_read_from_json(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_WAREHOUSE_RECIPIENTS", '{"LYON-1": ["ada@example.org"]}')
    monkeypatch.setenv("SMTP_URL", "smtp://mail")

    read = Settings(**settings.model_dump(exclude={"mail_warehouse_recipients", "smtp_url"}))

    assert read.mail_warehouse_recipients == {"LYON-1": ["ada@example.org"]}
    assert read.smtp_url == SecretStr("smtp://mail")
