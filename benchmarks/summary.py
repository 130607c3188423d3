"""`python -m benchmarks.summary`: prints what the results hold, promise by promise, and plots the streaming programs.

The plot is `docs/streaming-programs.svg`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import log10
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
PLOT = ROOT / "docs/streaming-programs.svg"
WIDTH, LABEL, BAR = 720, 230, 24


def promises() -> Iterator[tuple[str, str, str, str, bool | None]]:
    """Promise, what was measured, figure, promised, whether it holds; of results that are there."""
    for row in _read("streaming_peers") or []:
        if row["promised"] is not None:
            yield "P1", f"stream beside {row['program']}", f"{row['ratio']}x", f"{row['promised']}x", row["holds"]
    if found := _read("sinks"):
        slowest = found["slowestOfOurs"] >= found["promisedEventsPerSecond"]
        yield "P2", "slowest sink", f"{found['slowestOfOurs']:,}/s", f"{found['promisedEventsPerSecond']:,}/s", slowest
        cheaper = found["cpuRatio"] >= found["promisedCpuRatio"]
        yield "P2", "CPU per event of FastStream", f"{found['cpuRatio']}x", f"{found['promisedCpuRatio']}x", cheaper
    for row in _read("latest") or []:
        if row["promised"] is not None:
            yield row["id"], row["what"], f"{row['measured']}x", f"{row['promised']}x", row["holds"]
    if found := _read("relay"):
        yield "P6", found["what"], f"{found['ratio']}x", f"{found['promised']}x", found["holds"]
    for row in _read("batch_transformation") or []:
        if row["program"] == "stockflow on DuckDB":
            times = row["timesTheCpuOfDuckdb"]
            yield "P7", f"transformation of {row['entries']:,} entries", f"{times}x", "1.5x at most", times <= 1.5
    for path in sorted(RESULTS.glob("long_run-*.json")):
        steps = json.loads(path.read_text())[1:]  # The first step has the start of the process in it.
        costs = [step["cpuMicrosecondsPerEvent"] for step in steps]
        growth = costs[-1] / costs[0]
        what = f"CPU per event at {steps[-1]['events']:,} events of {steps[0]['stockItems']:,} stock items"
        yield "P8", what, f"{growth:.2f}x that at {steps[0]['events']:,}", "1.15x at most", growth <= 1.15
    for row in _read("stock_reads") or []:
        yield row["id"], row["what"], f"{row['ratio']}x", f"{row['promised']}x", row["holds"]


def plot(rows: Sequence[Mapping[str, Any]]) -> str:
    """Bars of events per second, on a logarithmic scale from 10 to a million."""
    ordered = sorted(rows, key=lambda row: -row["eventsPerSecond"])
    height = BAR * len(ordered) + 40
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
            'font-size="12"><rect width="100%" height="100%" fill="white"/>'
            '<text x="8" y="18" font-weight="bold">Events per second (logarithmic scale)</text>'
        )
    ]
    for number, row in enumerate(ordered):
        y = 30 + BAR * number
        width = max(1.0, (log10(row["eventsPerSecond"]) - 1) / 5 * (WIDTH - LABEL - 80))
        colour = "#1f6feb" if row["program"] == "Stockflow" else "#9aa4af"
        parts.append(
            f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(row["program"])}</text>'
            f'<rect x="{LABEL}" y="{y + 3}" width="{width:.0f}" height="{BAR - 8}" fill="{colour}"/>'
            f'<text x="{LABEL + width + 6:.0f}" y="{y + 15}">{row["eventsPerSecond"]:,}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _read(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def main() -> None:
    """Print and plot."""
    for promise, what, figure, promised, holds in promises():
        print(f"{promise:3} {'holds ' if holds else 'missed'} {figure:>24} (promised {promised}): {what}")
    if rows := _read("streaming_peers"):
        PLOT.write_text(plot(rows))


if __name__ == "__main__":
    main()
