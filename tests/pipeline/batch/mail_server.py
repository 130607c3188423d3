"""A mail server of the tests' own: real SMTP, and a list of what it was handed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial

from aiosmtpd.smtp import SMTP, Envelope, Session


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
        server = await loop.create_server(partial(SMTP, self, hostname="mail.test"), "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()
