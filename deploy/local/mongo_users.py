"""Who may do what in MongoDB: analytics writes its history, the pipeline reads what is published of it."""

from collections.abc import Mapping
from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

DOCUMENTS: Final = "analytics"
"""The database of the analytics service."""
MONGO_USERS: Final = ("root", "analytics", "pipeline")
PUBLISHED_VIEWS: Final = ("transactions_v1", "metric_history_v1", "reorder_events_v1")

_ALREADY_THERE: Final = frozenset({51002, 51003})
"""The codes of a role and of a user that exist."""


async def create_users(url: str, passwords: Mapping[str, str]) -> None:
    """Create what is missing of the users, and the role that may read the published views and nothing else.

    The same as `deploy/k8s/components/dev-infra/mongo-users.js` for a server that has no shell.
    """
    readable = [{"resource": {"db": DOCUMENTS, "collection": view}, "actions": ["find"]} for view in PUBLISHED_VIEWS]
    commands: list[tuple[str, dict[str, Any]]] = [
        ("admin", {"createUser": "root", "pwd": passwords["root"], "roles": ["root"]}),
        (DOCUMENTS, {"createUser": "analytics", "pwd": passwords["analytics"], "roles": ["readWrite"]}),
        (DOCUMENTS, {"createRole": "published_reader", "privileges": readable, "roles": []}),
        (DOCUMENTS, {"createUser": "pipeline", "pwd": passwords["pipeline"], "roles": ["published_reader"]}),
    ]
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        for database, command in commands:
            try:
                await client[database].command(command)
            except OperationFailure as error:
                if error.code not in _ALREADY_THERE:
                    raise
