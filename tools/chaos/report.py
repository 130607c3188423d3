"""What a run did and found, for people and as JSON."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.chaos.invariants import Finding
from tools.chaos.trouble import CONTROL, CONTROL_FAILPOINTS


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    broker: str
    seed: int
    load_seconds: float
    documents: int
    events: int
    refused: int
    repeated_documents: int
    records: int
    """On all topics, injected ones included."""
    injected: Mapping[str, int]
    trouble: Mapping[str, Mapping[str, int]]
    """Kind of trouble -> process or server -> times."""
    missed: Sequence[str]
    """Planned trouble that was not made, because its target did not come up in time."""
    failpoint_kills: Mapping[str, int]
    """Planned failpoint -> processes that died there."""
    exits: Mapping[str, Sequence[int]]
    """Other exit codes of processes that ended by themselves."""
    quiet_after_seconds: float | None
    """None when it did not become quiet."""
    findings: Sequence[Finding]
    control: Finding

    @property
    def violated(self) -> int:
        """Invariants that do not hold."""
        return sum(finding.wrong > 0 for finding in self.findings)

    @property
    def idle_failpoints(self) -> list[str]:
        """Planned failpoints at which nothing died."""
        return [name for name, kills in self.failpoint_kills.items() if kills == 0]

    @property
    def proves_something(self) -> bool:
        """Whether all planned trouble was made, and the naive worker was wrong, as it must be."""
        return self.control.wrong > 0 and not self.missed and not self.idle_failpoints

    @property
    def kills(self) -> int:
        """SIGKILLs of Stockflow and its servers, from outside and at failpoints; those of the control do not count."""
        outside = sum(times for name, times in self.trouble.get("SIGKILL", {}).items() if name not in CONTROL)
        return outside + sum(times for name, times in self.failpoint_kills.items() if name not in CONTROL_FAILPOINTS)


def write(result: Result, path: Path) -> None:
    """Keep the result as JSON."""
    figures = {**asdict(result), "kills": result.kills, "violated": result.violated}
    path.write_text(json.dumps(figures, indent=2))


def show(result: Result, console: Console) -> None:
    """Print what was done and what was found; the last line is the verdict."""
    console.print(_done(result))
    console.print(_found(result))
    for finding in result.findings:
        for example in finding.examples:
            console.print(f"  {finding.invariant}: {example}", highlight=False, markup=False, style="red")
    for name, codes in result.exits.items():
        console.print(f"  {name} ended by itself with {dict(Counter(codes))}", highlight=False)
    for blow in result.missed:
        console.print(f"  planned, but not dealt: {blow}", highlight=False)
    for name in result.idle_failpoints:
        console.print(f"  nothing died at failpoint {name}", highlight=False)
    console.print(f"control: {result.control.wrong} of {result.control.checked} aggregates wrong", highlight=False)
    console.print(f"invariants violated: {result.violated}", highlight=False)


def _done(result: Result) -> Table:
    table = Table("Done", "", title=f"{result.broker} broker, seed {result.seed}")
    table.add_row("events of acknowledged documents", f"{result.events:,} of {result.documents:,} documents")
    table.add_row("records on the topics", f"{result.records:,}")
    table.add_row("refused, repeated documents", f"{result.refused:,}, {result.repeated_documents:,}")
    table.add_row("injected", ", ".join(f"{count} {kind}" for kind, count in sorted(result.injected.items())))
    for kind, targets in result.trouble.items():
        told = ", ".join(f"{count} {name}" for name, count in sorted(targets.items()))
        table.add_row(f"{sum(targets.values())} x {kind}", told)
    at_failpoints = ", ".join(f"{count} {name}" for name, count in result.failpoint_kills.items())
    table.add_row(f"{sum(result.failpoint_kills.values())} x SIGKILL at failpoints", at_failpoints)
    table.add_row("SIGKILL in all, without the control", str(result.kills))
    table.add_row("load", f"{result.load_seconds:.0f} s")
    quiet = "never" if result.quiet_after_seconds is None else f"{result.quiet_after_seconds:.0f} s"
    table.add_row("quiet after", quiet)
    return table


def _found(result: Result) -> Table:
    table = Table("Invariant", "Checked", "Wrong")
    for finding in result.findings:
        style = "red" if finding.wrong else None
        table.add_row(finding.invariant, f"{finding.checked:,}", f"{finding.wrong:,}", style=style)
    return table
