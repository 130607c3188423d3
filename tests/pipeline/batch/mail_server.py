"""A mail server of the tests' own: real SMTP, and a list of what it was handed."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class MailServer:
    """What was handed in, and how the next mails are answered."""

    port: int = 0
    received: list[tuple[str, EmailMessage]] = field(default_factory=list)
    """(recipient, message) in the order received."""
    refusals: list[str] = field(default_factory=list)
    """SMTP answers to the next messages, instead of taking them."""
    breaks_after_taking: int = 0
    """How many messages it takes before it loses the connection without saying so."""
    tls: ssl.SSLContext | None = None
    is_tls_from_the_start: bool = False
    login: tuple[str, str] | None = None
    """Who may hand mails in; only over TLS."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """aiosmtpd's hook."""
        if self.refusals:
            return self.refusals.pop(0)
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        self.received.extend((recipient, message) for recipient in envelope.rcpt_tos)
        if self.breaks_after_taking:
            self.breaks_after_taking -= 1
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return "250 taken"

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Listens meanwhile, always on the same port."""
        loop = asyncio.get_running_loop()
        starts_tls = self.tls is not None and not self.is_tls_from_the_start
        smtp = partial(
            SMTP,
            self,
            hostname="mail.test",
            loop=loop,
            tls_context=self.tls if starts_tls else None,
            require_starttls=starts_tls,
            auth_required=self.login is not None,
            authenticator=self._authenticate,
        )
        implicit = self.tls if self.is_tls_from_the_start else None
        server = await loop.create_server(smtp, "127.0.0.1", self.port, ssl=implicit)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: object
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=(data.login.decode(), data.password.decode()) == self.login)
