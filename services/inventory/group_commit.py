"""Posts concurrent small documents together: they share locks, statements and one durable commit.

While few requests are under way, each is posted at once and alone. When more arrive than are posted at a time, they
wait for the next free turn and go together, decided in the order of arrival. There is no timer and no background task:
a waiting request leads the next group.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from libs.chassis.database import Pool
from libs.chassis.problems import unavailable
from services.inventory import ledger
from services.inventory.outcome import ErrorPolicy, Outcome
from services.inventory.refusal import Refused
from services.inventory.transaction import Document

MOST_TOGETHER = 200
MOST_GROUPS = 2
"""One group is in Postgres while the next is decided in Python; more would only share the same processor."""

NOT_KNOWN = "It is not known whether the transaction was posted. Send it again with the same transactionId."

_Turn = asyncio.Future[Outcome | None]
"""The outcome that a leader brings, or None: lead yourself."""


@dataclass(slots=True)
class GroupCommit:
    """The way into the ledger for single documents."""

    pool: Pool
    _groups: int = 0
    _waiting: deque[tuple[Document, _Turn]] = field(default_factory=deque)

    async def post(self, document: Document) -> Outcome:
        """The outcome of one document, committed when this returns."""
        if not _is_small(document):
            [outcome] = await ledger.post(self.pool, [document], ErrorPolicy.REJECT_ALL)
            return outcome
        if self._groups < MOST_GROUPS:
            self._groups += 1
            return await self._lead(document)
        turn: _Turn = asyncio.get_running_loop().create_future()
        self._waiting.append((document, turn))
        return await self._await(document, turn)

    async def _await(self, document: Document, turn: _Turn) -> Outcome:
        try:
            outcome = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result() is None:
                self._pass_on()
            raise
        return await self._lead(document) if outcome is None else outcome

    async def _lead(self, document: Document) -> Outcome:
        """Post the document together with those that wait."""
        followers = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER - 1))]
        try:
            first, *others = await self._post_together([document, *(each for each, _ in followers)])
        except BaseException as error:
            # A leader whose client has gone may have been stopped on either side of the commit.
            cause = error if isinstance(error, Exception) else unavailable("try-again", NOT_KNOWN)
            for _, turn in followers:
                if not turn.done():
                    turn.set_exception(cause)
            raise
        finally:
            self._pass_on()
        for (_, turn), outcome in zip(followers, others, strict=True):
            if not turn.done():
                turn.set_result(outcome)
        return first

    async def _post_together(self, documents: Sequence[Document]) -> list[Outcome]:
        try:
            return await ledger.post(self.pool, documents, ErrorPolicy.ACCEPT_VALID)
        except (Refused, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
            if len(documents) == 1:
                raise
        # One of them stands on a level that is broken or that the database refuses: the others must not suffer for it.
        return [outcome for each in documents for outcome in await self._post_together([each])]

    def _pass_on(self) -> None:
        """Let the next waiting request lead, or free the place."""
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._groups -= 1


def _is_small(document: Document) -> bool:
    return len(document.lines) == 1 and document.reverses_id is None and document.reservation_id is None
