"""What a test gets of the embedded stack: a database, topics and addresses of its own on servers that all share."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local.servers import Servers
from libs.events.settings import KafkaSettings
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


async def run_command(
    service: str, *command: str, kafka: KafkaSettings, environment: Mapping[str, str]
) -> tuple[int, str]:
    """Run `python -m services.<service> <command>` to its end, as an operator would: exit code, and all it wrote."""
    broker = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "KAFKA_PARTITIONS": str(kafka.partitions),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{service}", *command),
        cwd=ROOT,
        env={**os.environ, **broker, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def migrate(url: str) -> None:
    """Bring a database to the present version, as an operator would; its roles get the passwords of the tests."""
    passwords = {
        f"DATABASE_PASSWORD_{role.removeprefix('stockflow_').upper()}": _password(role)
        for role in (OWNER, *RUNTIME_ROLES)
    }
    environment = {**os.environ, "MIGRATIONS_DATABASE_URL": url, **passwords}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "migrations", cwd=ROOT, env=environment)
    assert await process.wait() == 0, "the migrations failed; their output is above"
