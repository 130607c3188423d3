"""Mails: what they say and to whom, as messages that any mail program shows and sorts into threads."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, Policy
from typing import Final


class _MessageIds(UnstructuredHeader, BaseHeader):
    """Message-IDs, one a line. Folded as text, long ones would become encoded words, which no program finds again."""

    def fold(self, *, policy: Policy) -> str:
        """The lines of the header."""
        return f"{self.name}: {f'{policy.linesep} '.join(self.split())}{policy.linesep}"


_HEADERS: Final = HeaderRegistry()
_HEADERS.map_to_type("in-reply-to", _MessageIds)
_HEADERS.map_to_type("references", _MessageIds)

_SEVEN_BIT: Final = SMTP.clone(cte_type="7bit", header_factory=_HEADERS)
"""Passes every server, whether or not it offers 8BITMIME."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that comes with a mail."""

    name: str
    html: str


@dataclass(frozen=True, slots=True)
class Mail:
    """One message to some recipients."""

    message_id: str
    """Stays the same however often the mail is sent: mail servers and programs drop a repeat by it."""
    sender: str
    recipients: Sequence[str]
    subject: str
    text: str
    html: str
    date: datetime
    references: Sequence[str] = ()
    """Message-IDs of the mails that this one follows, the first of the thread first."""
    attachment: Attachment | None = None

    def content(self) -> bytes:
        """The message as it is sent (RFC 5322): text, with HTML beside it."""
        message = EmailMessage(policy=_SEVEN_BIT)
        message["Message-ID"] = self.message_id
        message["Date"] = self.date
        message["From"] = Address("Stockflow", addr_spec=self.sender)
        message["To"] = ", ".join(self.recipients)
        message["Subject"] = self.subject
        # Nobody's absence note is wanted (RFC 3834).
        message["Auto-Submitted"] = "auto-generated"
        if self.references:
            message["In-Reply-To"] = self.references[-1]
            message["References"] = " ".join(self.references)
        message.set_content(self.text)
        message.add_alternative(self.html, subtype="html")
        if self.attachment:
            message.add_attachment(self.attachment.html, subtype="html", filename=self.attachment.name)
        return message.as_bytes()


def message_id(name: str, sender: str) -> str:
    """The Message-ID of that name in the sender's domain. The name has no blanks."""
    return f"<{name}@{sender.rpartition('@')[2]}>"
