"""The results files: what each measurement found, on what machine, by which command, and which promises it measured.

`benchmarks/results/NAME.json` belongs to one measurement; `latest.json` lists the promises of all of them.
"""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LATEST = RESULTS / "latest.json"


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise of docs/performance.md with what was measured; `promised` is None where it is only a comparison."""

    id: str
    what: str
    measured: float
    promised: float | None
    unit: str
    peer: str | None = None
    at_most: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the promise is kept by the figure as it is reported."""
        if self.promised is None:
            return None
        return self.measured <= self.promised if self.at_most else self.measured >= self.promised

    def row(self) -> dict[str, Any]:
        """As `latest.json` lists it."""
        row = asdict(self)
        bound = ", at most" if row.pop("at_most") else ""
        return row | {"unit": self.unit + bound, "holds": self.holds}


def write(name: str, machine: str, figures: object, promises: Sequence[Promise] = ()) -> None:
    """Write the results of a measurement, under the command that this process was started with."""
    rows = [promise.row() for promise in promises]
    result = {
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        "machine": machine,
        "commit": _commit(),
        "measuredAt": datetime.now(UTC).isoformat(timespec="minutes"),
        "figures": figures,
        "promises": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    for row in rows:
        print(told(row), flush=True)


def _commit() -> str | None:
    """The version of the code, with `+` where it has changes that are not committed; None outside of a repository."""
    if shutil.which("git") is None:
        return None
    head = _git("rev-parse", "--short", "HEAD")
    is_changed = _git("diff", "--quiet", "HEAD", "--", "*.py").returncode == 1
    return head.stdout.strip() + "+" * is_changed or None


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *arguments], cwd=Path(__file__).parents[1], capture_output=True, text=True)


def told(promise: dict[str, Any]) -> str:
    """A promise in one line."""
    verdict = {True: "holds", False: "missed", None: "-"}[promise["holds"]]
    bound = "" if promise["promised"] is None else f" (promised {promise['promised']:,})"
    beside = f", beside {promise['peer']}" if promise["peer"] else ""
    return f"{promise['id']:6} {verdict:6} {promise['measured']:,} {promise['unit']}{bound}: {promise['what']}{beside}"
