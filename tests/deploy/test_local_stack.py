"""The local stack on real, durable servers: it comes back after crashes, keeps its data, and leaves no process."""

import asyncio
import signal
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import psutil
import pytest
import redis.asyncio as redis
from pymongo import AsyncMongoClient

from deploy.local import record
from deploy.local.servers import SERVERS
from deploy.local.stack import AlreadyRunning, Stack

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="stockflow-stack-") as folder:
        yield Path(folder) / "up"


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    with TemporaryDirectory(prefix="stockflow-stack-") as folder:
        async with servers_only(Path(folder) / "up") as stack:
            yield stack


def servers_only(directory: Path) -> Stack:
    return Stack(directory, ports="auto", processes=())


def processes_in(directory: Path) -> list[str]:
    """Command lines of what runs with an argument in this directory, whoever started it."""
    lines = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if any(str(directory) in argument for argument in arguments):
            lines.append(" ".join(arguments))
    return lines


def documents(stack: Stack) -> AsyncMongoClient[dict[str, object]]:
    return AsyncMongoClient(stack.env["MONGO_URL"])


async def write_everywhere(stack: Stack) -> None:
    connection = await asyncpg.connect(stack.env["DATABASE_URL"])
    await connection.execute("CREATE TABLE kept (note text); INSERT INTO kept VALUES ('postgres')")
    await connection.close()
    async with redis.from_url(stack.env["REDIS_URL"]) as cache, documents(stack) as mongo:
        await cache.set("kept", "valkey")
        await mongo.get_default_database()["kept"].insert_one({"note": "mongo"})


async def read_everywhere(stack: Stack) -> list[str]:
    connection = await asyncpg.connect(stack.env["DATABASE_URL"])
    notes = [await connection.fetchval("SELECT note FROM kept")]
    await connection.close()
    async with redis.from_url(stack.env["REDIS_URL"], decode_responses=True) as cache, documents(stack) as mongo:
        notes.append(await cache.get("kept"))
        document = await mongo.get_default_database()["kept"].find_one()
        notes.append(str(document and document["note"]))
    return notes


async def test_data_and_the_admin_key_are_there_again_and_no_process_is_left(directory: Path) -> None:
    async with servers_only(directory) as stack:
        key = stack.env["API_KEY"]
        await write_everywhere(stack)
    assert processes_in(directory) == []
    assert not stack.env_file.exists()

    async with servers_only(directory) as stack:
        assert await read_everywhere(stack) == ["postgres", "valkey", "mongo"]
        assert stack.env["API_KEY"] == key
    assert processes_in(directory) == []


async def test_every_server_comes_back_after_a_crash(stack: Stack) -> None:
    for name in SERVERS:
        await stack.kill(name)

    async with asyncio.timeout(30):
        while stack.restarts != dict.fromkeys(SERVERS, 1) or not stack.is_ready:
            await asyncio.sleep(0.05)
    connection = await asyncpg.connect(stack.env["DATABASE_URL"])
    assert await connection.fetchval("SELECT count(*) FROM inventory.outbox") == 0
    await connection.close()


async def test_addresses_and_secrets_are_for_the_owner_only(stack: Stack) -> None:
    secret_files = [stack.env_file, *stack.directory.glob("*.json"), *stack.directory.glob("*.txt")]

    readable = [file.name for file in secret_files if stat.S_IMODE(file.stat().st_mode) & 0o077]

    assert readable == ["processes.json"]


async def test_a_second_stack_in_the_same_directory_is_refused(stack: Stack) -> None:
    with pytest.raises(AlreadyRunning):
        await servers_only(stack.directory).__aenter__()

    assert stack.env_file.exists()


SERVE = """
import asyncio, sys
from pathlib import Path
from deploy.local.stack import Stack

async def main():
    async with Stack(Path(sys.argv[1]), ports="auto", processes=()):
        print("up", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_killed_stack_leaves_no_process_and_the_next_one_starts(directory: Path) -> None:
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(directory), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert killed.stdout is not None
    assert await killed.stdout.readline() == b"up\n"
    record_file = servers_only(directory).record_file
    assert len(record.read(record_file)) == 1 + len(SERVERS)

    killed.send_signal(signal.SIGKILL)
    await killed.wait()

    assert await asyncio.to_thread(record.wait_until_gone, record_file, seconds=20) == []
    async with servers_only(directory) as stack:
        assert stack.is_ready
