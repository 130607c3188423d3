"""How far a long run is: a bar on a terminal, a line every few seconds elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_SECONDS_BETWEEN_LINES = 5.0


class Progress(Protocol):
    """Told about each stage of a run and the steps done in it."""

    def stage(self, name: str, total: int) -> None:
        """A stage of `total` steps begins; the stage before is over."""

    def advance(self, steps: int) -> None:
        """So many more steps of the stage are done."""


@contextmanager
def shown_on(console: Console) -> Iterator[Progress]:
    """The display that fits the console."""
    if not console.is_terminal:
        lines = _Lines(console)
        yield lines
        lines.finish()
        return
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console) as bars:
        yield _Bars(bars)


class _Bars:
    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def stage(self, name: str, total: int) -> None:
        self._task = self._bars.add_task(name, total=total)

    def advance(self, steps: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, steps)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._name = ""
        self._total = 0
        self._done = 0
        self._shown_at = 0.0

    def stage(self, name: str, total: int) -> None:
        self.finish()
        self._name, self._total, self._done = name, total, 0
        self._shown_at = time.monotonic()

    def advance(self, steps: int) -> None:
        self._done += steps
        if time.monotonic() - self._shown_at >= _SECONDS_BETWEEN_LINES:
            self._show()

    def finish(self) -> None:
        """Show where the last stage ended."""
        if self._name:
            self._show()

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        self._console.print(f"{self._name}: {self._done:,} of {self._total:,}", highlight=False)
