"""Mails that wait to be sent: written in the transaction that gave the reason, sent by the `mail` process."""

from dataclasses import dataclass
from datetime import datetime

from libs.chassis.database import Connection
from services.pipeline.mail import Mail


@dataclass(frozen=True, slots=True)
class Delivery:
    """One mail to one recipient, to be sent now."""

    message_id: str
    recipient: str
    sender: str
    content: bytes
    attempts: int
    """This one included."""
    first_attempt_at: datetime


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much waits, and for how long the oldest has."""

    waiting: int
    oldest_age_seconds: float


async def enqueue(connection: Connection, mail: Mail) -> None:
    """Have a mail sent once this transaction is committed."""
    await connection.execute(
        "INSERT INTO mail (message_id, sender, subject, content) VALUES ($1, $2, $3, $4)",
        mail.message_id,
        mail.sender,
        mail.subject,
        mail.content(),
    )
    await connection.execute(
        "INSERT INTO mail_delivery (message_id, recipient) SELECT $1, unnest($2::text[])",
        mail.message_id,
        sorted(set(mail.recipients)),
    )


async def has_due(connection: Connection) -> bool:
    """Whether any mail is to be sent now."""
    return bool(
        await connection.fetchval(
            """
            SELECT EXISTS (SELECT FROM mail_delivery
                            WHERE sent_at IS NULL AND given_up_at IS NULL AND next_attempt_at <= now())
            """
        )
    )


async def claim(connection: Connection, lease_seconds: float) -> Delivery | None:
    """The delivery that is due for longest; nobody else gets it during the lease. None when none is due."""
    row = await connection.fetchrow(
        """
        UPDATE mail_delivery AS delivery
           SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => $1),
               first_attempt_at = coalesce(first_attempt_at, now())
          FROM mail
         WHERE mail.message_id = delivery.message_id
           AND (delivery.message_id, recipient) = (
               SELECT message_id, recipient FROM mail_delivery
                WHERE sent_at IS NULL AND given_up_at IS NULL AND next_attempt_at <= now()
                ORDER BY next_attempt_at, message_id, recipient LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING delivery.message_id, recipient, sender, content, attempts, first_attempt_at
        """,
        lease_seconds,
    )
    return None if row is None else Delivery(**row)


async def mark_sent(connection: Connection, delivery: Delivery) -> None:
    """The server has taken it."""
    await connection.execute(
        "UPDATE mail_delivery SET sent_at = now(), error = NULL WHERE message_id = $1 AND recipient = $2",
        delivery.message_id,
        delivery.recipient,
    )


async def mark_failed(connection: Connection, delivery: Delivery, error: str, pause_seconds: float) -> None:
    """The server has not taken it; try again after the pause."""
    await connection.execute(
        """
        UPDATE mail_delivery SET error = $3, next_attempt_at = now() + make_interval(secs => $4)
         WHERE message_id = $1 AND recipient = $2
        """,
        delivery.message_id,
        delivery.recipient,
        error,
        pause_seconds,
    )


async def give_up(connection: Connection, delivery: Delivery, error: str) -> None:
    """The mail has been tried for too long. It is kept, with the error."""
    await connection.execute(
        "UPDATE mail_delivery SET error = $3, given_up_at = now() WHERE message_id = $1 AND recipient = $2",
        delivery.message_id,
        delivery.recipient,
        error,
    )


async def backlog(connection: Connection) -> Backlog:
    """What waits to be sent."""
    row = await connection.fetchrow(
        """
        SELECT count(*) AS waiting, coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS age
          FROM mail_delivery JOIN mail USING (message_id) WHERE sent_at IS NULL AND given_up_at IS NULL
        """
    )
    assert row is not None
    return Backlog(row["waiting"], row["age"])


async def delete_older(connection: Connection, days: int) -> int:
    """Delete the mails that nobody has waited for since so many days; how many.

    The first mail of a thread stays as long as an alert names it.
    """
    deleted = await connection.execute(
        """
        DELETE FROM mail
         WHERE created_at < now() - make_interval(days => $1)
           AND NOT EXISTS (SELECT FROM mail_delivery AS delivery
                            WHERE delivery.message_id = mail.message_id
                              AND coalesce(sent_at, given_up_at, 'infinity') >= now() - make_interval(days => $1))
           AND message_id NOT IN (SELECT thread_id FROM alert WHERE thread_id IS NOT NULL)
        """,
        days,
    )
    return int(deleted.split()[-1])
