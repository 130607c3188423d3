"""What a stack leaves in a file about itself, for those who look at it from outside."""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Entry:
    """One process of a stack. The instant of its birth tells it from a later process with the same id."""

    name: str
    pid: int
    born_at: float
    restarts: int

    def find(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            alive = process.create_time() == self.born_at and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


def entry(name: str, pid: int, restarts: int = 0) -> Entry:
    """The entry of a process that runs now. Raises psutil.NoSuchProcess otherwise."""
    return Entry(name, pid, psutil.Process(pid).create_time(), restarts)


SUPERVISOR = "supervisor"


def write(path: Path, pids: dict[str, int | None], restarts: dict[str, int]) -> None:
    """Record this process as the supervisor, and the programs that it runs."""
    entries = [entry(SUPERVISOR, os.getpid())]
    for name, pid in pids.items():
        if pid is not None and psutil.pid_exists(pid):
            entries.append(entry(name, pid, restarts[name]))
    draft = path.with_name(path.name + ".new")
    draft.write_text(json.dumps([asdict(one) for one in entries], indent=2))
    draft.replace(path)


def read(path: Path) -> list[Entry]:
    """The recorded processes, running or not; the supervisor first. Empty when nothing was recorded."""
    return [Entry(**fields) for fields in json.loads(path.read_text())] if path.exists() else []


def running_supervisor(path: Path) -> psutil.Process | None:
    """The supervisor of a stack that runs now."""
    return next((one.find() for one in read(path) if one.name == SUPERVISOR), None)


def wait_until_gone(path: Path, *, seconds: float) -> list[str]:
    """Wait for all recorded processes to end; the names of those that are still there after so many seconds."""
    deadline = time.monotonic() + seconds
    while survivors := [one.name for one in read(path) if one.find() is not None]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return survivors
