"""Idempotency keys, written in the transaction of their effect."""

from libs.chassis.database import Connection
from services.inventory.refusal import KeyReused


async def is_repeated(connection: Connection, actor: str, key: str, request_hash: bytes) -> bool:
    """Whether the request was carried out before under its key; claims the key for it if not.

    Raises KeyReused when another request has the key.
    """
    claimed = await claim(connection, actor, key, request_hash)
    if claimed is not None and claimed != request_hash:
        raise KeyReused(f"{key} was used before for another request")
    return claimed is not None


async def claim(connection: Connection, actor: str, key: str, request_hash: bytes) -> bytes | None:
    """None when the key is claimed now, else the hash of the request that claimed it before.

    Waits for another transaction that is claiming the same key.
    """
    status = await connection.execute(
        "INSERT INTO idempotency_key (actor, key, request_hash) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        actor,
        key,
        request_hash,
    )
    if status == "INSERT 0 1":
        return None
    claimed: bytes = await connection.fetchval(
        "SELECT request_hash FROM idempotency_key WHERE actor = $1 AND key = $2", actor, key
    )
    return claimed
