"""`Idempotency-Key`: makes a POST whose body carries no id of its own safe to repeat."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from libs.chassis.database import Connection
from libs.chassis.model import ApiModel
from libs.chassis.replay import mark_replayed
from services.inventory.queries import idempotency
from services.inventory.routes.access import Operator
from services.inventory.schemas.fields import request_hash

Key = Annotated[str | None, Header(min_length=1, max_length=128, description="Chosen by the caller; never expires.")]


@dataclass(frozen=True, slots=True)
class OncePerKey:
    """Whether the request was carried out before under its key; without a key it never was."""

    key: str | None
    actor: str
    path: str
    response: Response

    async def is_repeated(self, connection: Connection, body: ApiModel | None = None) -> bool:
        """Claim the key in the transaction of the effect; True, and the answer marked, when it was claimed before.

        Raises KeyReused when it was claimed by another request.
        """
        if self.key is None:
            return False
        if not await idempotency.is_repeated(connection, self.actor, self.key, _hash(self.path, body)):
            return False
        mark_replayed(self.response)
        return True


def _hash(path: str, body: ApiModel | None) -> bytes:
    return sha256(path.encode()).digest() if body is None else request_hash(body, path)


async def _once(principal: Operator, request: Request, response: Response, idempotency_key: Key = None) -> OncePerKey:
    return OncePerKey(idempotency_key, principal.name, request.url.path, response)


Once = Annotated[OncePerKey, Depends(_once)]
