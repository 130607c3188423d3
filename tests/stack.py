"""What a test gets of the embedded stack: a database, topics and addresses of its own on servers that all share."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.servers import Servers
from migrations.roles import OWNER, RUNTIME_ROLES

ROOT: Final = Path(__file__).parent.parent
TEMPLATE: Final = "stockflow_template"


@dataclass(frozen=True, slots=True)
class Database:
    """A migrated database that nobody else uses."""

    servers: Servers
    name: str

    def url(self, role: str) -> str:
        """Address for the role of a service ("inventory") or of a batch job ("batch")."""
        return self.servers.postgres_url(self.name, role=f"stockflow_{role}", password=_password(f"stockflow_{role}"))

    @property
    def owner_url(self) -> str:
        """Address for the role that owns the schemas."""
        return self.url(OWNER.removeprefix("stockflow_"))

    @property
    def superuser_url(self) -> str:
        """Address for a role that no grant stops."""
        return self.servers.postgres_url(self.name)


def _password(role: str) -> str:
    return f"{role}-in-tests"


async def migrate(url: str) -> None:
    """Bring a database to the present version, as an operator would; its roles get the passwords of the tests."""
    passwords = {
        f"DATABASE_PASSWORD_{role.removeprefix('stockflow_').upper()}": _password(role)
        for role in (OWNER, *RUNTIME_ROLES)
    }
    environment = {**os.environ, "MIGRATIONS_DATABASE_URL": url, **passwords}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "migrations", cwd=ROOT, env=environment)
    assert await process.wait() == 0, "the migrations failed; their output is above"
