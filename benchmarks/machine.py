"""What a figure was measured on, and what a process has used."""

import os
import platform
from pathlib import Path

import psutil


def machine() -> str:
    """Cores, memory and interpreter."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, CPython {platform.python_version()}"


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process and its children so far."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def peak_memory_bytes(process: psutil.Process) -> int:
    """The most memory that a process had so far."""
    return _status_bytes(process, "VmHWM:")


def memory_bytes(process: psutil.Process) -> int:
    """The memory that a process has."""
    return _status_bytes(process, "VmRSS:")


def _status_bytes(process: psutil.Process, field: str) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    [found] = [line for line in status.splitlines() if line.startswith(field)]
    return int(found.split()[1]) * 1024
