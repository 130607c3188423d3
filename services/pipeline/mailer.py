"""The `mail` process: sends what waits, one recipient at a time.

A mail is marked as sent after the server has taken it, so that none is lost. SMTP knows no transaction with others:
when the connection or this process breaks after the server has said 250 and before that is stored, the mail is sent
again, under the same Message-ID, by which mail servers and programs recognise the repeat. That is as exact as the
protocol is.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import unquote, urlsplit

import aiosmtplib
import structlog
from prometheus_client import Counter, Gauge

from libs.chassis.database import Pool, acquired, open_pool
from libs.chassis.problems import Problem
from libs.events.postgres import TRANSIENT
from services.pipeline import mail_queries
from services.pipeline.mail_queries import Delivery
from services.pipeline.settings import Settings

TIMEOUT_SECONDS: Final = 15.0
"""For each answer of the server, of which a mail takes four."""
LEASE_SECONDS: Final = 8 * TIMEOUT_SECONDS
LONGEST_PAUSE_SECONDS: Final = 3600.0
BACK_OFF_SECONDS: Final = 2.0
_PORTS: Final = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}

SENT = Counter("stockflow_mails_sent_total", "Mails that the server has taken, by recipient.")
FAILED = Counter("stockflow_mails_failed_total", "Attempts that failed; they are repeated.")
GIVEN_UP = Counter("stockflow_mails_given_up_total", "Mails that were tried for too long.")
WAITING = Gauge("stockflow_mails_waiting", "Mails that wait to be sent, by recipient.")
OLDEST = Gauge("stockflow_mails_oldest_seconds", "Age of the oldest mail that waits.")

log = structlog.get_logger(__name__)


class BadSmtpUrl(Exception):
    """SMTP_URL is none of smtp://, smtp+starttls:// and smtps://, or would send a password in the clear."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mails are handed in."""

    host: str
    port: int
    security: str
    user: str | None
    password: str | None

    @classmethod
    def of(cls, url: str) -> "SmtpServer":
        """The server of an SMTP_URL. Raises BadSmtpUrl."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise BadSmtpUrl(f"SMTP_URL begins with one of {', '.join(_PORTS)}, then ://host")
        if parts.scheme == "smtp" and parts.username:
            raise BadSmtpUrl("SMTP_URL with a user needs smtp+starttls:// or smtps://: passwords travel encrypted only")
        user, password = (part and unquote(part) for part in (parts.username, parts.password))
        return cls(parts.hostname, parts.port or _PORTS[parts.scheme], parts.scheme, user, password)

    def client(self) -> aiosmtplib.SMTP:
        """A client, connected once it is entered. Raises where TLS is asked for and not to be had."""
        return aiosmtplib.SMTP(
            hostname=self.host,
            port=self.port,
            username=self.user,
            password=self.password,
            use_tls=self.security == "smtps",
            start_tls=self.security == "smtp+starttls",
            timeout=TIMEOUT_SECONDS,
        )


async def run(stop: asyncio.Event, settings: Settings) -> None:
    """Send mails until asked to stop. Without SMTP_URL they are kept."""
    if settings.smtp_url is None:
        log.warning("mail.no_server", hint="set SMTP_URL: until then mails are kept")
        await stop.wait()
        return
    server = SmtpServer.of(settings.smtp_url.get_secret_value())
    url = settings.database_url.get_secret_value()
    async with await open_pool(url, size=1, application_name="pipeline-mail") as pool:
        await Mailer(settings, pool, server).run(stop)


class Mailer:
    """Hands mails in."""

    def __init__(self, settings: Settings, pool: Pool, server: SmtpServer) -> None:
        self._settings = settings
        self._pool = pool
        self._server = server
        self._outages = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Send what is due until asked to stop; when the mail server or Postgres is away, try again."""
        while not stop.is_set():
            pause = self._settings.mail_poll_seconds
            try:
                await self.send_due(stop)
                self._outages = 0
            except aiosmtplib.SMTPException as error:
                self._outages += 1
                pause = self._pause(self._outages)
                log.warning("mail.server_unavailable", error=repr(error), seconds=pause)
            except (*TRANSIENT, Problem) as error:
                pause = BACK_OFF_SECONDS
                log.warning("mail.backing_off", error=repr(error), seconds=pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)

    async def send_due(self, stop: asyncio.Event) -> None:
        """Send all that is due over one connection. Raises when the server cannot be reached, or is lost."""
        async with acquired(self._pool) as connection:
            waiting = await mail_queries.backlog(connection)
            WAITING.set(waiting.waiting)
            OLDEST.set(waiting.oldest_age_seconds)
            if not await mail_queries.has_due(connection):
                return
        async with self._server.client() as client:
            while not stop.is_set() and (delivery := await self._claim()):
                await self._send(client, delivery)

    async def _claim(self) -> Delivery | None:
        async with acquired(self._pool) as connection:
            return await mail_queries.claim(connection, LEASE_SECONDS)

    async def _send(self, client: aiosmtplib.SMTP, delivery: Delivery) -> None:
        try:
            await client.sendmail(delivery.sender, [delivery.recipient], delivery.content)
        except aiosmtplib.SMTPException as error:
            await self._fail(delivery, repr(error))
            if not client.is_connected:
                raise
            return
        SENT.inc()
        async with acquired(self._pool) as connection:
            await mail_queries.mark_sent(connection, delivery)
        log.info("mail.sent", message_id=delivery.message_id, recipient=delivery.recipient, attempts=delivery.attempts)

    async def _fail(self, delivery: Delivery, error: str) -> None:
        FAILED.inc()
        tried_too_long = datetime.now(UTC) - delivery.first_attempt_at > timedelta(
            days=self._settings.mail_give_up_days
        )
        async with acquired(self._pool) as connection:
            if tried_too_long:
                await mail_queries.give_up(connection, delivery, error)
            else:
                await mail_queries.mark_failed(connection, delivery, error, self._pause(delivery.attempts))
        if tried_too_long:
            GIVEN_UP.inc()
        log.log(
            40 if tried_too_long else 30,
            "mail.given_up" if tried_too_long else "mail.failed",
            message_id=delivery.message_id,
            recipient=delivery.recipient,
            attempts=delivery.attempts,
            error=error,
        )

    def _pause(self, failures: int) -> float:
        return min(self._settings.mail_retry_seconds * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE_SECONDS)
