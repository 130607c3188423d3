"""What the demo posts, and what is known of it beforehand."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from tools.replay import rejects, sales, source, workload
from tools.replay.run import Outcome
from tools.replay.workload import Workload
from tools.simulate import Oracle, Scale, simulate

SEED = 20
POLICIES = 500
THRESHOLDS = 50


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulated week: everything that must come out is known."""

    workload: Workload
    oracle: Oracle

    @property
    def told(self) -> str:
        """One sentence about it."""
        scale = Scale()
        return (
            f"A simulated week of {scale.skus} skus in {scale.warehouses} warehouses:"
            f" {self.workload.line_count:,} lines, {len(self.oracle.refusals)} documents with planted faults,"
            f" {self.oracle.repeats} sent twice."
        )


@dataclass(frozen=True, slots=True)
class FromFile:
    """A file of sales, with the rows that cannot be posted."""

    workload: Workload
    path: Path
    rows: pl.DataFrame
    rejected: pl.DataFrame

    @property
    def told(self) -> str:
        """One sentence about it."""
        return f"{self.path}: {self.rows.height:,} rows, of which {self.workload.line_count:,} can be posted."

    def with_refused(self, outcome: Outcome) -> pl.DataFrame:
        """position, reason: the rejected rows, and those that a service refused."""
        return self.rejected.vstack(rejects.of_documents(outcome.refused))


Feed = Simulated | FromFile


def simulated() -> Simulated:
    """The week that `make demo` shows without a file."""
    simulation = simulate(SEED, Scale())
    return Simulated(simulation.workload, simulation.oracle)


def from_file(path: Path) -> FromFile:
    """The sales of a file. Raises source.UnreadableFile."""
    rows = source.read(path)
    screened = sales.screen(rows, now=datetime.now(UTC))
    work = workload.from_sales(screened.sales, policies=POLICIES, thresholds=THRESHOLDS)
    return FromFile(work, path, rows, screened.rejected)
