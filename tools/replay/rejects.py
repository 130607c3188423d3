"""The list of rows that could not be posted."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from tools.replay.run import RefusedDocument

_SCHEMA = {"position": pl.UInt32, "reason": pl.String}


def of_documents(refused: Sequence[RefusedDocument]) -> pl.DataFrame:
    """position, reason: the rows of the file behind documents that the inventory service refused."""
    rows = [
        (line.position, f"{item.refusal.code}: {item.refusal.detail}")
        for item in refused
        for line in item.document.lines
        if line.position is not None
    ]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def write(path: Path, rows: pl.DataFrame, rejected: pl.DataFrame) -> None:
    """Write the rejected rows of the file as they stand there, with the reason: mend it and replay it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.join(rejected, on="position", how="inner").sort("position").drop("position").write_csv(path)


def counts(rejected: pl.DataFrame) -> list[tuple[str, int]]:
    """Reason and number of rows, the most frequent first."""
    return Counter(rejected["reason"].to_list()).most_common()
