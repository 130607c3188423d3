"""`Idempotency-Key`: makes a POST whose body carries no id of its own safe to repeat."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request, Response

from libs.chassis.database import Connection
from libs.chassis.model import ApiModel
from services.inventory.queries import idempotency
from services.inventory.refusal import KeyReused
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

    async def is_repeated(self, connection: Connection, body: ApiModel) -> bool:
        """Claim the key in the transaction of the effect; True, and the answer marked, when it was claimed before.

        Raises KeyReused when it was claimed by another request.
        """
        if self.key is None:
            return False
        wanted = request_hash(body, self.path)
        claimed = await idempotency.claim(connection, self.actor, self.key, wanted)
        if claimed is None:
            return False
        if claimed != wanted:
            raise KeyReused(f"Idempotency-Key {self.key} was used before for another request")
        self.response.headers["Idempotent-Replayed"] = "true"
        return True


async def _once(principal: Operator, request: Request, response: Response, idempotency_key: Key = None) -> OncePerKey:
    return OncePerKey(idempotency_key, principal.name, request.url.path, response)


Once = Annotated[OncePerKey, Depends(_once)]
