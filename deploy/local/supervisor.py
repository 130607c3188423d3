"""Keeps programs running: starts them when asked, starts them again when they crash, stops them without leftovers."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_TETHER: Final = Path(__file__).with_name("tether.py")
_PROBE_SECONDS: Final = 0.05
_FIRST_BACKOFF_SECONDS: Final = 0.1
_LONGEST_BACKOFF_SECONDS: Final = 5.0
_HEALTHY_SECONDS: Final = 30.0

logger = logging.getLogger(__name__)


class NotReady(Exception):
    """A program runs but does not answer yet."""


class StartFailed(Exception):
    """A program ended, or did not answer in time, before it was ready."""


async def always_ready() -> None:
    """The readiness of a program that answers no question: it runs."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how to know that it works."""

    name: str
    argv: tuple[str, ...]
    log: Path
    """Gets standard output and standard error; appended to."""
    ready: Callable[[], Awaitable[None]] = always_ready
    """Returns once the program answers; raises NotReady or OSError until then."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the supervisor's own environment."""
    directory: Path | None = None
    user: str = ""
    """The account to run as; empty for the supervisor's own."""
    stop_signal: signal.Signals = signal.SIGTERM
    start_seconds: float = 180.0
    stop_seconds: float = 25.0
    """After this long a program that was asked to stop is killed."""


class Supervised:
    """One program, its present process, and how often it had to be started again."""

    def __init__(self, program: Program, on_restart: Callable[[str], Awaitable[None]]) -> None:
        self.program = program
        self.restarts = 0
        self.exit_codes: list[int] = []
        self.is_ready = False
        self._on_restart = on_restart
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The process id, or None while no process runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Return when the program is ready; from then on it is kept running. Raises StartFailed."""
        async with self._changing:
            await self._start()

    async def stop(self) -> None:
        """End the program: its stop signal, and SIGKILL for whatever is left of it after `stop_seconds`.

        Raises, when the program is stopped, what kept it from being supervised, if anything did.
        """
        async with self._changing:
            await self._stop()

    async def restart(self) -> None:
        """Stop the program and start it again. Raises StartFailed."""
        async with self._changing:
            await self._stop()
            await self._start()

    def kill(self) -> None:
        """Crash the program with SIGKILL; it is started again."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    async def _start(self) -> None:
        await self._launch()
        self.is_ready = True
        self._watch = asyncio.create_task(self._keep_running(), name=f"keep {self.program.name} running")

    async def _stop(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait({watch})
        await self._end()
        if watch is not None and not watch.cancelled():
            watch.result()

    async def _launch(self) -> None:
        log_begins_at = self.program.log.stat().st_size if self.program.log.exists() else 0
        self._process = await _spawn(self.program)
        try:
            await self._until_ready(self._process, log_begins_at)
        except BaseException:
            code = self._process.returncode
            if code is not None:
                self.exit_codes.append(code)
            await self._end()
            raise

    async def _until_ready(self, process: asyncio.subprocess.Process, log_begins_at: int) -> None:
        refusal: Exception = NotReady()
        deadline = time.monotonic() + self.program.start_seconds
        while process.returncode is None and time.monotonic() < deadline:
            try:
                async with asyncio.timeout(self.program.start_seconds):
                    return await self.program.ready()
            except (NotReady, OSError, TimeoutError) as error:
                refusal = error
                await asyncio.sleep(_PROBE_SECONDS)
        outcome = "is not ready" if process.returncode is None else f"ended with code {process.returncode}"
        raise StartFailed(f"{self.program.name} {outcome}: {refusal!r}\n{_tail(self.program.log, log_begins_at)}")

    async def _keep_running(self) -> None:
        failures = 0
        while True:
            ready_since = time.monotonic()
            code = await self._current.wait()
            failures = 1 if time.monotonic() - ready_since > _HEALTHY_SECONDS else failures + 1
            await self._start_again(code, failures)

    async def _start_again(self, code: int, failures: int) -> None:
        self.is_ready = False
        self.exit_codes.append(code)
        _kill_group(self._current.pid)
        while True:
            delay = min(_FIRST_BACKOFF_SECONDS * 2 ** (failures - 1), _LONGEST_BACKOFF_SECONDS)
            self.restarts += 1
            logger.warning("%s ended with code %s; starting it again in %.1f s", self.program.name, code, delay)
            await asyncio.sleep(delay)
            try:
                await self._launch()
                await self._on_restart(self.program.name)
                self.is_ready = True
                return
            except (StartFailed, OSError) as error:
                logger.warning("%s", error)
                failures += 1

    async def _end(self) -> None:
        self.is_ready = False
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(self.program.stop_signal)
            try:
                async with asyncio.timeout(self.program.stop_seconds):
                    await process.wait()
            except TimeoutError:
                logger.warning("%s did not stop within %.0f s", self.program.name, self.program.stop_seconds)
            finally:
                _kill_group(process.pid)
        await process.wait()

    @property
    def _current(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self.program.name} was never started")
        return self._process


async def _nothing(_name: str) -> None:
    """What happens after a restart when nobody asks for more."""


class Supervisor:
    """A set of named programs that are kept running until the block is left.

    `on_restart` is awaited with a program's name after each restart, when it is ready again; it may raise StartFailed
    to have the program started once more.
    """

    def __init__(self, on_restart: Callable[[str], Awaitable[None]] = _nothing) -> None:
        self._on_restart = on_restart
        self._supervised: dict[str, Supervised] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, *programs: Program) -> None:
        """Start programs at the same time; return when all are ready. Raises StartFailed (in an ExceptionGroup)."""
        async with asyncio.TaskGroup() as starts:
            for program in programs:
                supervised = self._supervised[program.name] = Supervised(program, self._on_restart)
                starts.create_task(supervised.start())

    async def stop(self, names: Iterable[str] | None = None) -> None:
        """Stop the named programs, or all, at the same time."""
        stopping = [self._supervised.pop(name) for name in list(names if names is not None else self._supervised)]
        outcomes = await asyncio.gather(*(supervised.stop() for supervised in stopping), return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if errors:
            raise BaseExceptionGroup("some programs could not be kept running or stopped", errors)

    async def restart(self, name: str) -> None:
        """Stop a program cleanly and start it again; does not count as a crash. Calls at the same time take turns."""
        await self._supervised[name].restart()

    def kill(self, name: str) -> None:
        """Crash a program with SIGKILL; it is started again."""
        self._supervised[name].kill()

    @property
    def restarts(self) -> dict[str, int]:
        """How often each program was started again after a crash."""
        return {name: supervised.restarts for name, supervised in self._supervised.items()}

    @property
    def exit_codes(self) -> dict[str, list[int]]:
        """How the crashes of each program ended: exit codes, negative for a signal."""
        return {name: supervised.exit_codes for name, supervised in self._supervised.items()}

    @property
    def pids(self) -> dict[str, int | None]:
        """The process id of each program, None while it is down."""
        return {name: supervised.pid for name, supervised in self._supervised.items()}

    @property
    def are_ready(self) -> bool:
        """Whether every program runs and answers."""
        return all(supervised.is_ready for supervised in self._supervised.values())


async def _spawn(program: Program) -> asyncio.subprocess.Process:
    tether = (sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), str(int(program.stop_signal)), program.user)
    program.log.parent.mkdir(parents=True, exist_ok=True)
    with program.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *tether,
            *program.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **program.env},
            cwd=program.directory,
            start_new_session=True,
        )


def _kill_group(leader: int) -> None:
    """End what a program leaves behind: the other processes of its group."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _tail(log: Path, begins_at: int, lines: int = 20) -> str:
    """The last lines of a log, as far as they were written after `begins_at`."""
    written = log.read_bytes()[begins_at:].decode(errors="replace")
    return "\n".join(written.splitlines()[-lines:])
