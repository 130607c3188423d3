"""Dead letters of consumers whose results are in Postgres."""

import json
from base64 import b64decode
from collections.abc import Mapping

import asyncpg

from libs.chassis.database import Pool, acquired
from libs.events import dead_letter_retry
from libs.events.dead_letter_retry import Outcome, Status, UnknownDeadLetter
from libs.events.postgres import Handler
from libs.operations.dead_letters import DeadLetter


class PostgresDeadLetters:
    """The table `dead_letter` of a service, and the handler of each of its groups."""

    def __init__(self, pool: Pool, handlers: Mapping[str, Handler]) -> None:
        self._pool = pool
        self._handlers = handlers

    async def page(self, status: Status | None, after: str | None, limit: int) -> list[DeadLetter]:
        """As DeadLetterStore.page, the latest first."""
        async with acquired(self._pool) as connection:
            rows = await connection.fetch(
                """
                SELECT * FROM dead_letter
                 WHERE ($1::text IS NULL OR status = $1) AND id < coalesce($2::bigint, 9223372036854775807)
                 ORDER BY id DESC LIMIT $3
                """,
                status,
                None if after is None else _number(after),
                limit,
            )
        return [_letter(row) for row in rows]

    async def find(self, letter_id: str) -> DeadLetter:
        """As DeadLetterStore.find."""
        async with acquired(self._pool) as connection:
            row = await connection.fetchrow("SELECT * FROM dead_letter WHERE id = $1", _number(letter_id))
        if row is None:
            raise UnknownDeadLetter(f"there is no dead letter {letter_id}")
        return _letter(row)

    async def retry(self, letter_id: str, *, by: str, value: bytes | None = None) -> Outcome:
        """As DeadLetterStore.retry."""
        handle = self._handlers[(await self.find(letter_id)).group]
        async with acquired(self._pool) as connection, connection.transaction():
            return await dead_letter_retry.retry(connection, handle, _number(letter_id), by=by, value=value)

    async def discard(self, letter_id: str, *, by: str, note: str) -> None:
        """As DeadLetterStore.discard."""
        async with acquired(self._pool) as connection, connection.transaction():
            await dead_letter_retry.discard(connection, _number(letter_id), by=by, note=note)


def _number(letter_id: str) -> int:
    if not (letter_id.isascii() and letter_id.isdigit() and len(letter_id) < 19):
        raise UnknownDeadLetter(f"there is no dead letter {letter_id}")
    return int(letter_id)


def _letter(row: asyncpg.Record) -> DeadLetter:
    headers = row["headers"] if isinstance(row["headers"], list) else json.loads(row["headers"])
    return DeadLetter(
        id=str(row["id"]),
        group=row["group_name"],
        topic=row["topic"],
        partition=row["partition"],
        offset=row["record_offset"],
        key=row["key"],
        value=row["value"],
        edited_value=row["edited_value"],
        headers=[(name, b64decode(value)) for name, value in headers],
        event_type=row["event_type"],
        event_id=row["event_id"],
        error_class=row["error_class"],
        error=row["error"],
        status=Status(row["status"]),
        attempts=row["attempts"],
        record_timestamp=row["record_timestamp"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        resolved_by=row["resolved_by"],
        note=row["note"],
    )
