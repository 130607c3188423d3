"""The supervisor keeps programs running, and leaves nothing behind."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from deploy.local.supervisor import NotReady, Program, StartFailed, Supervisor

SLEEPER = ("sleep", "600")
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    async with Supervisor() as supervisor:
        yield supervisor


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def runs(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_killed_program_is_started_again(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start(Program("sleeper", SLEEPER, tmp_path / "log"))
    first = supervisor.pids["sleeper"]

    supervisor.kill("sleeper")

    await eventually(lambda: supervisor.restarts["sleeper"] == 1 and supervisor.are_ready)
    assert not runs(first)
    assert runs(supervisor.pids["sleeper"])


async def test_a_clean_restart_is_no_crash(supervisor: Supervisor, tmp_path: Path) -> None:
    await supervisor.start(Program("sleeper", SLEEPER, tmp_path / "log"))
    first = supervisor.pids["sleeper"]

    await supervisor.restart("sleeper")

    assert supervisor.restarts["sleeper"] == 0
    assert supervisor.pids["sleeper"] != first


async def test_restarts_at_the_same_time_take_turns_and_leave_one_process(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    async def ready() -> None:
        if not runs(int((log.read_text().split() or ["0"])[-1])):
            raise NotReady

    await supervisor.start(Program("sleeper", ("sh", "-c", "echo $$; exec sleep 600"), log, ready=ready))

    await asyncio.gather(*(supervisor.restart("sleeper") for _ in range(3)))

    started = [int(line) for line in log.read_text().split()]
    assert len(started) == 4
    assert [pid for pid in started if runs(pid)] == [supervisor.pids["sleeper"]]
    assert supervisor.are_ready


async def test_a_stop_waits_for_the_restarts_before_it_and_leaves_nothing(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    await supervisor.start(Program("sleeper", ("sh", "-c", "echo $$; exec sleep 600"), log))

    await asyncio.gather(supervisor.restart("sleeper"), supervisor.restart("sleeper"), supervisor.stop())

    assert supervisor.pids == {}
    assert not any(runs(int(line)) for line in log.read_text().split())


async def test_a_program_that_ends_at_once_fails_to_start_and_shows_its_last_words(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    async def never() -> None:
        raise NotReady

    broken = Program("broken", (sys.executable, "-c", "raise SystemExit('no disk')"), tmp_path / "log", ready=never)

    with pytest.RaisesGroup(pytest.RaisesExc(StartFailed, match="broken ended with code 1.*\n.*no disk")):
        await supervisor.start(broken)


async def test_a_program_that_ignores_its_stop_signal_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    log = tmp_path / "log"

    async def ready() -> None:
        if log.read_text() != "deaf\n":
            raise NotReady

    await supervisor.start(Program("deaf", (sys.executable, "-c", deaf), log, ready=ready, stop_seconds=0.2))
    pid = supervisor.pids["deaf"]

    await supervisor.stop()

    assert not runs(pid)


async def test_children_of_a_program_end_with_it(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def ready() -> None:
        if not log.read_text():
            raise NotReady

    await supervisor.start(Program("parent", ("sh", "-c", "sleep 600 & echo $!; wait"), log, ready=ready))
    child = int(log.read_text())
    assert runs(child)

    await supervisor.stop()

    await eventually(lambda: not runs(child))


async def test_a_restart_that_cannot_be_completed_is_tried_again(tmp_path: Path) -> None:
    attempts: list[str] = []

    async def refuse_once(name: str) -> None:
        attempts.append(name)
        if len(attempts) == 1:
            raise StartFailed("topics are missing")

    async with Supervisor(refuse_once) as supervisor:
        await supervisor.start(Program("sleeper", SLEEPER, tmp_path / "log"))
        supervisor.kill("sleeper")
        await eventually(lambda: len(attempts) == 2 and supervisor.are_ready)

        assert supervisor.restarts["sleeper"] == 2


SUPERVISE_TWO = """
import asyncio, sys
from pathlib import Path
from deploy.local.supervisor import Program, Supervisor

async def main():
    async with Supervisor() as supervisor:
        await supervisor.start(*(Program(str(n), ("sleep", "600"), Path(sys.argv[1])) for n in range(2)))
        print(*supervisor.pids.values(), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_programs_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISE_TWO, str(tmp_path / "log"), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert supervisor.stdout is not None
    pids = [int(pid) for pid in (await supervisor.stdout.readline()).split()]
    assert [runs(pid) for pid in pids] == [True, True]

    supervisor.send_signal(signal.SIGKILL)
    await supervisor.wait()

    await eventually(lambda: not any(runs(pid) for pid in pids))
